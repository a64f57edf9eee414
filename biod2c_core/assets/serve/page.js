"use strict";

const at = (id) => document.getElementById(id);
const MAX_SIDE = 1024; // the model sees far fewer pixels; smaller uploads are faster
// least to most; lightness rises throughout
const STOPS = [[48, 18, 90], [50, 72, 150], [30, 120, 150], [40, 165, 120], [150, 205, 60], [253, 231, 37]];
let image = null; // {bitmap, url}
let shown = null; // the attention map on display

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

function colour(level) {
  const place = level * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((value, i) => value + (STOPS[low + 1][i] - value) * (place - low));
}

function paintMap(pen, map, width, height) {
  const small = document.createElement("canvas");
  small.width = map[0].length;
  small.height = map.length;
  const pixels = small.getContext("2d").createImageData(small.width, small.height);
  const most = Math.max(...map.flat()) || 1;
  map.flat().forEach((value, i) => {
    const level = value / most;
    pixels.data.set([...colour(level), 255 * 0.6 * (0.25 + 0.75 * level)], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, width, height);
}

function draw() {
  const canvas = at("picture");
  canvas.hidden = !image;
  at("hint").hidden = Boolean(image);
  if (!image) return;
  canvas.width = image.bitmap.width;
  canvas.height = image.bitmap.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image.bitmap, 0, 0);
  if (shown && at("overlay").checked) paintMap(pen, shown, canvas.width, canvas.height);
}

async function take(file) {
  if (!file) return;
  try {
    const whole = await createImageBitmap(file);
    const scale = Math.min(1, MAX_SIDE / Math.max(whole.width, whole.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(whole.width * scale));
    canvas.height = Math.max(1, Math.round(whole.height * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white"; // under transparent pixels, as on a page
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
    image = { bitmap: canvas, url: canvas.toDataURL("image/png") };
    shown = null;
    at("answers").replaceChildren();
    say("");
    draw();
  } catch {
    say("This file is no image that the browser can read.", true);
  }
}

function addAnswer(question, answer, extras) {
  const item = document.createElement("li");
  const bar = document.createElement("span");
  const level = document.createElement("span");
  bar.className = "bar";
  level.style.width = `${Math.round(100 * extras.confidence)}%`;
  bar.append(level);
  const kind = extras.calibrated ? "confidence" : "confidence (not calibrated)";
  item.append(`${question} — `, Object.assign(document.createElement("b"), { textContent: answer }));
  item.append(document.createElement("br"), bar, `${kind} ${extras.confidence.toFixed(2)}`);
  const show = () => {
    document.querySelectorAll("#answers li").forEach((other) => other.classList.remove("shown"));
    item.classList.add("shown");
    shown = extras.attention;
    draw();
  };
  item.addEventListener("click", show);
  at("answers").prepend(item);
  show();
}

async function ask(question) {
  const asked = image;
  const content = [{ type: "text", text: question }, { type: "image_url", image_url: { url: asked.url } }];
  const headers = { "Content-Type": "application/json" };
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
  const body = JSON.stringify({ messages: [{ role: "user", content }], attention: true });
  const response = await fetch("/v1/chat/completions", { method: "POST", headers, body });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error ? reply.error.message : `status ${response.status}`);
  if (image !== asked) return; // another image was dropped meanwhile
  addAnswer(question, reply.choices[0].message.content, reply.biod2c);
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!image) return say("Choose an image first.", true);
  if (!question) return say("Ask something about the image.", true);
  at("send").disabled = true;
  say("…");
  try {
    await ask(question);
    say("");
  } catch (error) {
    say(error.message, true);
  } finally {
    at("send").disabled = false;
  }
});

const drop = at("drop");
drop.addEventListener("click", () => at("file").click());
drop.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault(); // Space would scroll
  at("file").click();
});
at("file").addEventListener("change", () => take(at("file").files[0]));
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
at("overlay").addEventListener("change", draw);
