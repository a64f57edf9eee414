// What the page of 'biod2c serve' and that of 'biod2c export --onnx' do alike with what is on them.

export const at = (id) => document.getElementById(id);

export function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

// A picture on white, no side longer than this many pixels, as a canvas.
export function scaled(whole, side) {
  const scale = Math.min(1, side / Math.max(whole.width, whole.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(whole.width * scale));
  canvas.height = Math.max(1, Math.round(whole.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white"; // under transparent pixels, as on a page
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(whole, 0, 0, canvas.width, canvas.height);
  return canvas;
}
