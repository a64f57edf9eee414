// From a picture file to the numbers that the model reads, by the steps of biod2c: its colours on white,
// Pillow's bicubic resampling to a square, and the mean and deviation of the model.

const BITS = 22; // behind the point, in Pillow's resampling of pictures of 8 bits
const MOST_PIXELS = 64000000;

// A file as {canvas, width, height, rgba}, upright; what the browser would show otherwise is refused.
export async function decode(file) {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const isPng = [0x89, 0x50, 0x4e, 0x47].every((value, i) => head[i] === value);
  if (isPng && head[24] === 16) {
    throw new Error(`${file.name} has 16 bits a channel, of which a browser keeps 8: ask about it with 'biod2c ask'.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name} is no picture that a browser reads. Of a DICOM or NIfTI file, save a slice as PNG.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`${file.name} has over ${MOST_PIXELS} pixels: save a smaller version.`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true }); // in memory, where no colour is rounded
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { canvas, width, height, rgba: pen.getImageData(0, 0, width, height).data };
}

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// For each place of the result, where to begin to read and the weights from there on, as whole numbers.
function kernels(from, to) {
  const scale = from / to;
  const widened = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * widened + 0.5));
    const end = Math.min(from, Math.trunc(centre + 2 * widened + 0.5));
    const weights = [];
    for (let i = first; i < end; i++) weights.push(cubic((i - centre + 0.5) * (1 / widened)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = weights.map((weight) => {
      const scaled = (weight / sum) * 2 ** BITS;
      return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    return { first, whole };
  });
}

// Resample one axis of (lines, length, 3), wherever its values lie: each step is a distance in the array.
function resampleAxis(source, target, lines, kernelsOfAxis) {
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < kernelsOfAxis.length; place++) {
      const { first, whole } = kernelsOfAxis[place];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1);
        let from = line * source.line + first * source.along + channel;
        for (let i = 0; i < whole.length; i++, from += source.along) sum += source.values[from] * whole[i];
        target.values[line * target.line + place * target.along + channel] = sum >> BITS; // clamped
      }
    }
  }
}

// (height, width, 4) of 8 bits to (side, side, 3), as Pillow 13 does it: along one axis, rounded to 8 bits,
// then along the other; down the columns first where that makes a tall picture small.
export function resize({ width, height, rgba }, side) {
  const downFirst = height > side && height + side > 2 * width;
  const [across, down] = [kernels(width, side), kernels(height, side)];
  const square = new Uint8ClampedArray(side * side * 3);
  if (downFirst) {
    const low = new Uint8ClampedArray(side * width * 3);
    resampleAxis({ values: rgba, line: 4, along: 4 * width }, { values: low, line: 3, along: 3 * width }, width, down);
    resampleAxis({ values: low, line: 3 * width, along: 3 }, { values: square, line: 3 * side, along: 3 }, side, across);
  } else {
    const narrow = new Uint8ClampedArray(height * side * 3);
    resampleAxis({ values: rgba, line: 4 * width, along: 4 }, { values: narrow, line: 3 * side, along: 3 }, height, across);
    resampleAxis({ values: narrow, line: 3, along: 3 * side }, { values: square, line: 3, along: 3 * side }, side, down);
  }
  return square;
}

// (side, side, 3) of 8 bits to (3, side, side), in float32 at each step.
export function normalize(square, side, mean, deviation) {
  const pixels = new Float32Array(3 * side * side);
  for (let channel = 0; channel < 3; channel++) {
    const [middle, spread] = [Math.fround(mean[channel]), Math.fround(deviation[channel])];
    const levels = Float32Array.from({ length: 256 }, (_, value) => {
      return Math.fround(Math.fround(value / 255) - middle) / spread;
    });
    for (let i = 0; i < side * side; i++) pixels[channel * side * side + i] = levels[square[3 * i + channel]];
  }
  return pixels;
}
