// The field that files are dropped on, and the other ways in: choosing them, and pasting.

import { at } from "./elements.js";

// Call `take` with the files, at least one, whichever way they come.
export function receiveFiles(take) {
  const give = (files) => {
    if (files.length) take([...files]);
  };
  const drop = at("drop");
  drop.addEventListener("click", () => at("file").click());
  drop.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault(); // Space would scroll
    at("file").click();
  });
  at("file").addEventListener("change", () => {
    give(at("file").files);
    at("file").value = ""; // the same file may be chosen again
  });
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    give(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => give(event.clipboardData.files));
}
