// What an answer is worth, as biod2c_core/inference/calibration.py says it.

const LEAST_FAMILIARITY = 0.001;
const round = (value) => Number(value.toFixed(4));

function logit(p) {
  const kept = Math.min(Math.max(p, 1e-6), 1 - 1e-6);
  return Math.log(kept / (1 - kept));
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

function interpolate(x, points) {
  const next = points.findIndex(([at]) => at > x);
  if (next === 0) return points[0][1];
  if (next < 0) return points.at(-1)[1];
  const [[x0, y0], [x1, y1]] = [points[next - 1], points[next]];
  return y0 + ((y1 - y0) / (x1 - x0)) * (x - x0);
}

function rise(curve, confidence) {
  if (curve.method === "temperature") return sigmoid(logit(confidence) / curve.temperature);
  return interpolate(confidence, curve.points);
}

function discounted(confidence, familiarity, weight) {
  if (weight === 0) return confidence;
  return sigmoid(logit(confidence) + weight * Math.log(Math.max(familiarity, LEAST_FAMILIARITY)));
}

// The probability exp(logP) to four digits.
export function probability(logP) {
  return Number(Math.exp(logP).toPrecision(4));
}

// The share of left-out pictures that lie farther from those of training than this one.
export function familiarityOf(distance, distances) {
  return round(1 - distances.filter((each) => each <= distance).length / distances.length);
}

// {confidence, calibrated} of an answer; calibration and familiarity may be null.
export function judge(answer, probabilityOfIt, familiarity, calibration) {
  if (!calibration) return { confidence: probabilityOfIt, calibrated: false };
  const isYesNo = ["yes", "no"].includes(answer.replace(/^[ .!,]+|[ .!,]+$/g, "").toLowerCase());
  const curve = isYesNo ? calibration.yes_no : calibration.other;
  if (familiarity === null) {
    return { confidence: round(rise(curve, probabilityOfIt)), calibrated: curve.familiarity_weight === 0 };
  }
  const fitted = Math.max(familiarity, curve.familiar_from);
  let known = rise(curve, discounted(probabilityOfIt, fitted, curve.familiarity_weight));
  if (familiarity < fitted) {
    const least = Math.min(curve.guess, known);
    known = least + ((known - least) * familiarity) / fitted;
  }
  return { confidence: round(known), calibrated: familiarity >= curve.familiar_from };
}
