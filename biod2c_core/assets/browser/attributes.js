// Yes or no about what an open question tells, as biod2c_core/model/beyond/attributes.py says it.

const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

// The longest name of a value at a place: {length, question, value}, or a length of 1 and nothing else.
function valueAt(asked, place, attributes) {
  let best = { length: 0 };
  for (const { question, values } of attributes) {
    for (const { words: name, value } of values) {
      const isHere = name.every((word, i) => asked[place + i] === word);
      if (isHere && name.length > best.length) best = { length: name.length, question, value };
    }
  }
  return best.length ? best : { length: 1 };
}

// [{question, value}]: the open questions that a yes/no question comes down to, and what each must be
// answered with; none if it asks anything else.
export function askedIn(question, attributes) {
  if (!attributes || [...question].length > attributes.longest) return [];
  const asked = words(question);
  const found = [];
  for (let place = 0; place < asked.length;) {
    const { length, question: open, value } = valueAt(asked, place, attributes.all);
    if (open !== undefined) {
      if (found.some((each) => each.question === open)) return [];
      found.push({ question: open, value });
    } else if (!attributes.fillers.includes(asked[place])) {
      return [];
    }
    place += length;
  }
  return found;
}

// {text, sure} of what must hold, and of the model's {text, probability} for each.
export function conclude(resting, given) {
  const differs = given.filter(({ text }, i) => words(text).join(" ") !== words(resting[i].value).join(" "));
  const sure = differs.length
    ? Math.max(...differs.map((each) => each.probability))
    : given.reduce((product, each) => product * each.probability, 1);
  return { text: differs.length ? "no" : "yes", sure: Number(sure.toPrecision(4)) };
}
