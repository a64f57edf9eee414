// Yes or no about what an open question tells, as biod2c_core/model/beyond/attributes.py says it.

const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

// What the longest name at a place means: {length, condition}, or a length of 1 and nothing else.
function namedAt(asked, place, attributes) {
  let best = { length: 0 };
  for (const { question, names } of attributes) {
    for (const { words: name, value, holds } of names) {
      const isHere = name.every((word, i) => asked[place + i] === word);
      if (isHere && name.length > best.length) best = { length: name.length, condition: { question, value, holds } };
    }
  }
  return best.length ? best : { length: 1 };
}

// [{question, value, holds}]: the open questions that a yes/no question comes down to, and what each must be
// answered with, or, where `holds` is false, must not be; none if it asks anything else.
export function askedIn(question, attributes) {
  if (!attributes || [...question].length > attributes.longest) return [];
  const asked = words(question);
  const found = [];
  for (let place = 0; place < asked.length;) {
    const { length, condition } = namedAt(asked, place, attributes.all);
    if (condition) {
      if (found.some((each) => each.question === condition.question)) return [];
      found.push(condition);
    } else if (!attributes.fillers.includes(asked[place])) {
      return [];
    }
    place += length;
  }
  return found;
}

// {text, sure} of the conditions, and of the model's {text, probability} for each.
export function conclude(resting, given) {
  const isValue = (text, i) => words(text).join(" ") === words(resting[i].value).join(" ");
  const differs = given.filter(({ text }, i) => isValue(text, i) !== resting[i].holds);
  const sure = differs.length
    ? Math.max(...differs.map((each) => each.probability))
    : given.reduce((product, each) => product * each.probability, 1);
  return { text: differs.length ? "no" : "yes", sure: Number(sure.toPrecision(4)) };
}
