// An answer as a row of the list.

import { scaled } from "./elements.js";

const THUMBNAIL = 56; // pixels of the longer side

// Two digits as Python prints them: of a tie (0.125, 0.375 ...) the even one, where toFixed takes the larger.
export function twoDigits(value) {
  const tie = Number.isInteger(value * 8) && (value * 8) % 2 !== 0;
  return (tie ? Math.round(value * 50) / 50 : value).toFixed(2);
}

// A small copy of a picture, as the address of an image.
export function thumbnailOf(picture) {
  return scaled(picture, THUMBNAIL).toDataURL("image/png");
}

function made(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// A row about {name, thumbnail}, which may lack a thumbnail: the question, {answer, confidence, calibrated,
// familiarity}, where familiarity may be missing, and the warnings. A click or Enter calls `back`, which brings the
// picture back; the arrow keys lead to the rows above and below.
export function answerRow(about, question, reply, warnings, back) {
  const item = made("li", { tabIndex: 0 });
  const bar = made("span", { className: "bar" });
  const level = bar.appendChild(made("span", {}));
  level.style.width = `${Math.round(100 * reply.confidence)}%`;
  const kind = reply.calibrated ? "confidence" : "confidence (not calibrated)";
  const known = (reply.familiarity ?? null) === null ? "" : `, familiarity ${twoDigits(reply.familiarity)}`;
  item.append(`${question} — `, made("b", { textContent: reply.answer }), made("br", {}));
  item.append(bar, `${kind} ${twoDigits(reply.confidence)}${known}`);
  item.append(...warnings.map((textContent) => made("p", { className: "warning", textContent })));
  item.append(made("small", { textContent: about.name }));
  if (about.thumbnail) item.append(made("img", { src: about.thumbnail, alt: about.name }));
  item.addEventListener("click", back);
  item.addEventListener("keydown", (event) => {
    const next = { ArrowDown: item.nextElementSibling, ArrowUp: item.previousElementSibling }[event.key];
    if (event.key !== "Enter" && event.key !== " " && !next) return;
    event.preventDefault();
    if (next) return next.focus();
    back();
  });
  return item;
}
