"use strict";
const element = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-label]")];
const keys = Object.fromEntries(buttons.map((button) => [button.dataset.label[0], button.dataset.label]));
let state = null, visited = [], busy = false;

function show(next) {
  state = next;
  element("progress").textContent = `${state.done} of ${state.total} labelled`;
  element("name").textContent = state.name ?? "";
  for (const button of buttons)
    button.setAttribute("aria-pressed", String(button.dataset.label === state.label));
  const image = element("image"), message = element("message");
  message.hidden = state.index !== null;
  message.textContent = "All images are labelled. You can close this page.";
  image.hidden = state.index === null;
  if (state.index !== null) {
    image.alt = state.name;
    image.src = `image/${state.index}`;
  }
}

async function ask(path, body) {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch(path, body && { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
  } catch (error) {
    element("message").hidden = false;
    element("message").textContent = `Not saved: ${error.message}. Is the command still running?`;
  } finally {
    busy = false;
  }
}

function label(name) {
  if (state === null || state.index === null || busy) return;
  visited.push(state.index);
  ask("label", { index: state.index, label: name });
}

function back() {
  if (!busy && visited.length) ask(`state/${visited.pop()}`);
}

element("image").addEventListener("error", async () => {
  const answer = await fetch(element("image").src);
  element("image").hidden = true;
  element("message").hidden = false;
  element("message").textContent = `This image cannot be shown: ${await answer.text()}`;
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "ArrowLeft" || event.key === "Backspace") back();
  else if (keys[event.key.toLowerCase()]) label(keys[event.key.toLowerCase()]);
});
for (const button of buttons)
  button.addEventListener("click", () => label(button.dataset.label));
element("back").addEventListener("click", back);
ask("state");
