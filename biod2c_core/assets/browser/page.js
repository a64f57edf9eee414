// The page: a picture, a question, an answer. Nothing of it leaves the browser.

import { twoDigits } from "./confidence.js";
import { decode } from "./picture.js";

const at = (id) => document.getElementById(id);
const THUMBNAIL = 56;
const UNLIKE = 0.05; // familiarity of a picture unlike those of training, as in biod2c
const loading = load();
let image = null; // on display, and asked about: {picture, name, thumbnail, seen}
let turn = 0; // of reading: what comes from an earlier one is dropped
let reading = false;

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

async function load() {
  say("loading the model …");
  try {
    const { Model } = await import("./model.js");
    const model = await Model.load();
    say("");
    return model;
  } catch (error) {
    const missing = error instanceof TypeError; // a module that cannot be fetched
    const remedy = missing ? " If node_modules is missing, run 'npm install' in this folder." : "";
    say(`The model cannot be loaded: ${error.message}.${remedy}`.replace("..", "."), true);
    return null;
  }
}

function draw() {
  const canvas = at("picture");
  canvas.hidden = !image;
  at("hint").hidden = Boolean(image) || reading;
  at("name").textContent = image ? image.name : "";
  if (!image) return;
  canvas.width = image.picture.width;
  canvas.height = image.picture.height;
  canvas.getContext("2d").drawImage(image.picture.canvas, 0, 0);
}

function thumbnailOf({ canvas, width, height }) {
  const scale = Math.min(1, THUMBNAIL / Math.max(width, height));
  const small = document.createElement("canvas");
  small.width = Math.max(1, Math.round(width * scale));
  small.height = Math.max(1, Math.round(height * scale));
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  return small.toDataURL("image/png");
}

// Nothing of the last picture stays while another is read, so that no question can go to it.
async function take(file) {
  if (!file) return;
  const mine = ++turn;
  image = null;
  reading = true;
  draw();
  say(`reading ${file.name} …`);
  try {
    const picture = await decode(file);
    if (mine !== turn) return;
    image = { picture, name: file.name, thumbnail: thumbnailOf(picture), seen: null };
    say("");
  } catch (error) {
    if (mine === turn) say(error.message, true);
  } finally {
    if (mine === turn) reading = false;
    draw();
  }
}

function line(className, textContent) {
  return Object.assign(document.createElement("p"), { className, textContent });
}

function addAnswer(about, question, name, reply) {
  const item = document.createElement("li");
  const bar = Object.assign(document.createElement("span"), { className: "bar" });
  const level = bar.appendChild(document.createElement("span"));
  level.style.width = `${Math.round(100 * reply.confidence)}%`;
  const kind = reply.calibrated ? "confidence" : "confidence (not calibrated)";
  item.append(`${question} — `, Object.assign(document.createElement("b"), { textContent: reply.answer }));
  const known = reply.familiarity === null ? "" : `, familiarity ${twoDigits(reply.familiarity)}`;
  item.append(document.createElement("br"), bar, `${kind} ${twoDigits(reply.confidence)}${known}`);
  if (reply.familiarity !== null && reply.familiarity < UNLIKE) {
    item.append(line("warning", `this picture is unlike those that ${name} was trained on`));
  }
  if (reply.unknownScript) {
    item.append(line("warning", `the question is in a script that ${name} was hardly trained on: its answer means little`));
  }
  item.append(Object.assign(document.createElement("small"), { textContent: about.name }));
  item.append(Object.assign(document.createElement("img"), { src: about.thumbnail, alt: about.name }));
  item.addEventListener("click", () => { // what is seen is what is asked about
    turn += 1;
    reading = false;
    image = about;
    say("");
    draw();
  });
  at("answers").prepend(item);
}

async function ask(about, question) {
  const model = await loading;
  if (!model) return;
  say("…");
  await new Promise(requestAnimationFrame); // shows it: what follows keeps the browser busy
  about.seen ??= await model.look(about.picture);
  const reply = await model.ask(about.seen, question);
  addAnswer(about, question, model.settings.name, reply);
  if (image === about) say("");
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (reading) return say("The image is still being read.", true);
  if (!image) return say("Choose an image first.", true);
  if (!question) return say("Ask something about the image.", true);
  at("send").disabled = true;
  try {
    await ask(image, question);
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
