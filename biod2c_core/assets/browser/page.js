// The page: a picture, a question, an answer. Nothing of it leaves the browser.

import { answerRow, thumbnailOf } from "./answers.js";
import { receiveFiles } from "./drop.js";
import { at, say } from "./elements.js";
import { decode } from "./picture.js";

const UNLIKE = 0.05; // familiarity of a picture unlike those of training, as in biod2c
const loading = load();
let image = null; // on display, and asked about: {picture, name, thumbnail, seen}
let turn = 0; // of reading: what comes from an earlier one is dropped
let reading = false;

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

// Nothing of the last picture stays while another is read, so that no question can go to it.
async function take([file, ...more]) {
  const mine = ++turn;
  image = null;
  reading = more.length === 0;
  draw();
  if (!reading) return say(`${more.length + 1} files were given: this page asks about one at a time.`, true);
  say(`reading ${file.name} …`);
  try {
    const picture = await decode(file);
    if (mine !== turn) return;
    image = { picture, name: file.name, thumbnail: thumbnailOf(picture.canvas), seen: null };
    say("");
  } catch (error) {
    if (mine === turn) say(error.message, true);
  } finally {
    if (mine === turn) reading = false;
    draw();
  }
}

function addAnswer(about, question, name, reply) {
  const warnings = [];
  if (reply.familiarity !== null && reply.familiarity < UNLIKE) {
    warnings.push(`this picture is unlike those that ${name} was trained on`);
  }
  if (reply.unknownScript) {
    warnings.push(`the question is in a script that ${name} was hardly trained on: its answer means little`);
  }
  at("answers").prepend(answerRow(about, question, reply, warnings, () => { // what is seen is what is asked about
    turn += 1;
    reading = false;
    image = about;
    say("");
    draw();
  }));
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

receiveFiles(take);
