"use strict";

const at = (id) => document.getElementById(id);
const MAX_SIDE = 1024; // the model sees far fewer pixels; smaller uploads are faster
// least to most; lightness rises throughout
const STOPS = [[48, 18, 90], [50, 72, 150], [30, 120, 150], [40, 165, 120], [150, 205, 60], [253, 231, 37]];
const THUMBNAIL = 56;
let image = null; // on display, and asked about: {bitmap, url, name, thumbnail, source}
let shown = null; // the attention map on display
let source = null; // the file of the controls, which only the server reads: {file, url, frames, axis}
let turn = 0; // of reading: what comes from an earlier one is dropped
let reading = false;

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

function colour(level) {
  const place = level * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((value, i) => value + (STOPS[low + 1][i] - value) * (place - low));
}

function paintMap(pen, map, width, height, strength) {
  const small = document.createElement("canvas");
  small.width = map[0].length;
  small.height = map.length;
  const pixels = small.getContext("2d").createImageData(small.width, small.height);
  const most = Math.max(...map.flat()) || 1;
  map.flat().forEach((value, i) => {
    const level = value / most;
    pixels.data.set([...colour(level), 255 * strength * (0.25 + 0.75 * level)], 4 * i);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, width, height);
}

function draw() {
  const canvas = at("picture");
  canvas.hidden = !image;
  at("hint").hidden = Boolean(image) || reading;
  at("name").textContent = image ? image.name : "";
  if (!image) return;
  canvas.width = image.bitmap.width;
  canvas.height = image.bitmap.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image.bitmap, 0, 0);
  if (shown && at("overlay").checked) {
    paintMap(pen, shown, canvas.width, canvas.height, at("strength").value / 100);
  }
}

// Nothing of the last picture stays while another is read, so that no question can go to it.
function clear() {
  turn += 1;
  image = null;
  shown = null;
  reading = true;
  mark(null);
  draw();
  return turn;
}

function scaled(whole, side) {
  const scale = Math.min(1, side / Math.max(whole.width, whole.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(whole.width * scale));
  canvas.height = Math.max(1, Math.round(whole.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // under transparent pixels, as on a page
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  return canvas;
}

function show(whole, name, from) {
  const bitmap = scaled(whole, MAX_SIDE);
  const thumbnail = scaled(bitmap, THUMBNAIL).toDataURL("image/png");
  image = { bitmap, url: bitmap.toDataURL("image/png"), name, thumbnail, source: from };
  reading = false;
  say("");
  draw();
}

function fail(error) {
  reading = false;
  draw();
  say(error.message, true);
}

function controls() {
  at("volume").hidden = !source;
  if (!source) return;
  at("frame").max = source.frames - 1;
  at("frame").value = source.frame;
  at("frame").disabled = source.frames < 2;
  at("place").textContent = `${source.frame + 1} of ${source.frames}`;
  at("axes").hidden = source.kind !== "nifti";
  at("windows").hidden = source.kind === "picture";
  at("axis").value = source.axis;
}

function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(`data:application/octet-stream;base64,${reader.result.split(",")[1] ?? ""}`);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

async function send(path, value) {
  const headers = { "Content-Type": "application/json" };
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(value) });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error ? reply.error.message : `status ${response.status}`);
  return reply;
}

// A picture that only the server reads: one frame or slice of a file, as PNG.
async function fetchPicture(mine, from, choice) {
  const reply = await send("/picture", { name: from.name, file: from.url, ...choice });
  const bytes = Uint8Array.from(atob(reply.image_url.split(",")[1]), (c) => c.charCodeAt(0));
  const whole = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  if (mine !== turn) return;
  source = { ...from, kind: reply.kind, frames: reply.frames, frame: reply.frame, axis: reply.axis };
  const several = reply.frames > 1 ? `, picture ${reply.frame + 1} of ${reply.frames}` : "";
  if (reply.kind === "picture" && reply.frames === 1) source = null;
  show(whole, from.name + several, source);
  controls();
}

async function take(file) {
  if (!file) return;
  const mine = clear();
  source = null;
  at("centre").value = at("width").value = "";
  controls();
  say(`reading ${file.name} …`);
  try {
    const whole = await createImageBitmap(file);
    if (mine === turn) show(whole, file.name, null);
    return;
  } catch {
    // DICOM, NIfTI, TIFF and the like: the server may know it
  }
  try {
    await fetchPicture(mine, { name: file.name, url: await asDataUrl(file) }, {});
  } catch (error) {
    if (mine !== turn) return;
    fail(new Error(`${file.name} is no image that the browser can read, and the server says: ${error.message}`));
  }
}

async function choose() {
  const mine = clear();
  const choice = { frame: Number(at("frame").value), axis: Number(at("axis").value) };
  const [centre, width] = ["centre", "width"].map((id) => at(id).value);
  if (centre !== "" && width !== "") choice.window = [Number(centre), Number(width)];
  if (choice.axis !== source.axis) delete choice.frame; // another number of slices: the middle one
  try {
    await fetchPicture(mine, source, choice);
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

function mark(item) {
  for (const other of document.querySelectorAll("#answers li")) {
    other.classList.toggle("shown", other === item);
    other.toggleAttribute("aria-current", other === item);
  }
}

function addAnswer(about, question, answer, extras) {
  const item = document.createElement("li");
  const bar = document.createElement("span");
  const level = document.createElement("span");
  bar.className = "bar";
  level.style.width = `${Math.round(100 * extras.confidence)}%`;
  bar.append(level);
  const kind = extras.calibrated ? "confidence" : "confidence (not calibrated)";
  item.append(`${question} — `, Object.assign(document.createElement("b"), { textContent: answer }));
  item.append(document.createElement("br"), bar, `${kind} ${extras.confidence.toFixed(2)}`);
  if (extras.familiarity !== undefined) item.append(`, familiarity ${extras.familiarity.toFixed(2)}`);
  if (extras.warning) {
    item.append(Object.assign(document.createElement("p"), { className: "warning", textContent: extras.warning }));
  }
  item.append(Object.assign(document.createElement("small"), { textContent: about.name }));
  item.append(Object.assign(document.createElement("img"), { src: about.thumbnail, alt: about.name }));
  item.tabIndex = 0;
  const display = () => {
    image = about;
    source = about.source;
    shown = extras.attention;
    mark(item);
    controls();
    draw();
  };
  const back = () => { // the picture comes back with its map: what is seen is what is asked about
    turn += 1;
    reading = false;
    say("");
    display();
  };
  item.addEventListener("click", back);
  item.addEventListener("keydown", (event) => {
    const next = { ArrowDown: item.nextElementSibling, ArrowUp: item.previousElementSibling }[event.key];
    if (event.key !== "Enter" && event.key !== " " && !next) return;
    event.preventDefault();
    if (next) return next.focus();
    back();
  });
  at("answers").prepend(item);
  if (image === about) display();
}

async function ask(question) {
  const about = image;
  const content = [{ type: "text", text: question }, { type: "image_url", image_url: { url: about.url } }];
  const messages = [{ role: "user", content }];
  const reply = await send("/v1/chat/completions", { messages, attention: true });
  addAnswer(about, question, reply.choices[0].message.content, reply.biod2c);
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (reading) return say("The image is still being read.", true);
  if (!image) return say("Choose an image first.", true);
  if (!question) return say("Ask something about the image.", true);
  at("send").disabled = true;
  say("…");
  const mine = turn;
  try {
    await ask(question);
    if (mine === turn) say("");
    at("question").select();
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
at("file").addEventListener("change", () => {
  take(at("file").files[0]);
  at("file").value = ""; // the same file may be chosen again
});
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
at("strength").addEventListener("input", draw);
at("frame").addEventListener("input", () => {
  at("place").textContent = `${Number(at("frame").value) + 1} of ${source.frames}`;
});
for (const id of ["frame", "axis", "centre", "width"]) at(id).addEventListener("change", choose);
