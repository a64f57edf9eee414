import { answerRow, thumbnailOf, twoDigits } from "../asking/answers.js";
import { receiveFiles } from "../asking/drop.js";
import { at, say, scaled } from "../asking/elements.js";

const MAX_SIDE = 1024; // the model sees far fewer pixels; smaller uploads are faster
const LEAST_SIDE = 512; // of each of many pictures, which share the longest request
// least to most; lightness rises throughout
const STOPS = [[48, 18, 90], [50, 72, 150], [30, 120, 150], [40, 165, 120], [150, 205, 60], [253, 231, 37]];
let images = []; // that are asked about, in one request: {bitmap, url, name, thumbnail, source}
let place = 0; // among them of the one on display
let image = null; // on display; nothing is asked while there is none
let shown = null; // the attention map on display
let source = null; // the file of the controls, which only the server reads: {file, url, frames, axis}
let turn = 0; // of reading: what comes from an earlier one is dropped
let reading = false;

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
  drawOthers();
  if (!image) return;
  canvas.width = image.bitmap.width;
  canvas.height = image.bitmap.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image.bitmap, 0, 0);
  if (shown && at("overlay").checked) {
    paintMap(pen, shown, canvas.width, canvas.height, at("strength").value / 100);
  }
}

// All that are asked about, where they are several: a click puts one of them on display.
function drawOthers() {
  at("others").hidden = images.length < 2 || reading;
  at("others").replaceChildren(...images.map((each) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: each.name });
    button.append(Object.assign(document.createElement("img"), { src: each.thumbnail, alt: each.name }));
    button.setAttribute("aria-current", each === image);
    button.addEventListener("click", () => display(each, images, null, null));
    return button;
  }));
}

// Show a picture that has been read, with those that are asked about with it and the map of an answer, if any.
function display(one, all, map, row) {
  turn += 1;
  reading = false;
  say("");
  [image, images, place, shown, source] = [one, all, all.indexOf(one), map, one.source];
  mark(row);
  controls();
  draw();
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

// A picture as it is shown and sent; `count` are sent together.
function prepared(whole, name, from, count) {
  const bitmap = scaled(whole, Math.max(LEAST_SIDE, MAX_SIDE / Math.sqrt(count)));
  return { bitmap, url: bitmap.toDataURL("image/png"), name, thumbnail: thumbnailOf(bitmap), source: from };
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
async function fetchPicture(from, choice, count) {
  const reply = await send("/picture", { name: from.name, file: from.url, ...choice });
  const bytes = Uint8Array.from(atob(reply.image_url.split(",")[1]), (c) => c.charCodeAt(0));
  const whole = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const read = { ...from, kind: reply.kind, frames: reply.frames, frame: reply.frame, axis: reply.axis };
  const several = reply.frames > 1 ? `, picture ${reply.frame + 1} of ${reply.frames}` : "";
  const fixed = reply.kind === "picture" && reply.frames === 1;
  return prepared(whole, from.name + several, fixed ? null : read, count);
}

async function readPicture(file, count) {
  try {
    return prepared(await createImageBitmap(file), file.name, null, count);
  } catch {
    // DICOM, NIfTI, TIFF and the like: the server may know it
  }
  try {
    return await fetchPicture({ name: file.name, url: await asDataUrl(file) }, {}, count);
  } catch (error) {
    throw new Error(`${file.name} is no image that the browser can read, and the server says: ${error.message}`);
  }
}

async function take(files) {
  images = [];
  const mine = clear();
  source = null;
  at("centre").value = at("width").value = "";
  controls();
  try {
    const read = [];
    for (const file of files) {
      say(`reading ${file.name} …`);
      read.push(await readPicture(file, files.length));
      if (mine !== turn) return;
    }
    display(read[0], read, null, null);
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

async function choose() {
  const mine = clear();
  const choice = { frame: Number(at("frame").value), axis: Number(at("axis").value) };
  const [centre, width] = ["centre", "width"].map((id) => at(id).value);
  if (centre !== "" && width !== "") choice.window = [Number(centre), Number(width)];
  if (choice.axis !== source.axis) delete choice.frame; // another number of slices: the middle one
  try {
    const other = await fetchPicture(source, choice, images.length);
    if (mine === turn) display(other, images.map((each, i) => (i === place ? other : each)), null, null);
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

// The whole of several images, as a row names it: what was answered, with its evidence, about which of them.
function wholeOf(all, spread) {
  const answers = spread.map((each) => {
    return `${each.answer} ${twoDigits(each.confidence)} (${each.images.map((i) => all[i].name).join(", ")})`;
  });
  return { name: `the whole of ${all.length} images: ${answers.join("; ")}` };
}

// Each warning once, after the names of the images that it is about.
function warningsOf(all, replies) {
  const names = new Map();
  replies.forEach(({ warning }, i) => {
    if (warning) names.set(warning, [...(names.get(warning) ?? []), all[i].name]);
  });
  return [...names].map(([warning, about]) => `${about.join(", ")}: ${warning}`);
}

function addAnswers(all, question, answer, extras) {
  const replies = extras.images ?? [{ answer, ...extras }];
  const add = (about, reply, warnings, i) => {
    const back = () => display(all[i], all, replies[i].attention, row); // what is seen is what is asked about
    const row = answerRow(about, question, reply, warnings, back);
    at("answers").prepend(row);
    return back;
  };
  let displayed = null;
  for (let i = all.length - 1; i >= 0; i--) { // the first one on top
    const back = add(all[i], replies[i], replies[i].warning ? [replies[i].warning] : [], i);
    if (images === all && image === all[i]) displayed = back;
  }
  if (all.length > 1) add(wholeOf(all, extras.spread), { answer, ...extras }, warningsOf(all, replies), 0);
  displayed?.();
}

async function ask(question) {
  const all = images;
  const pictures = all.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  const messages = [{ role: "user", content: [{ type: "text", text: question }, ...pictures] }];
  const reply = await send("/v1/chat/completions", { messages, attention: true });
  addAnswers(all, question, reply.choices[0].message.content, reply.biod2c);
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

receiveFiles(take);
at("overlay").addEventListener("change", draw);
at("strength").addEventListener("input", draw);
at("frame").addEventListener("input", () => {
  at("place").textContent = `${Number(at("frame").value) + 1} of ${source.frames}`;
});
for (const id of ["frame", "axis", "centre", "width"]) at(id).addEventListener("change", choose);
