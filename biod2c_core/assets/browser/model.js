// A model in three parts: what a picture tells, what a question makes of it, and the next token.

import { Tokenizer } from "./node_modules/@huggingface/tokenizers/dist/tokenizers.min.mjs";
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { askedIn, conclude } from "./attributes.js";
import { familiarityOf, judge, probability } from "./confidence.js";
import { normalize, resize } from "./picture.js";

const BLANK = "[\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+"; // as Python's
const BLANKS = new RegExp(BLANK, "g");
const AROUND = new RegExp(`^${BLANK}|${BLANK}$`, "g");
const strip = (text) => text.replace(AROUND, "");

async function fetchJson(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing here (status ${response.status}).`);
  return response.json();
}

function whole(ids) {
  return new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
}

function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

export class Model {
  // Read all parts; their files lie beside the page.
  static async load() {
    const names = ["settings.json", "tokenizer.json", "tokenizer_config.json"];
    const [settings, ...tokenizer] = await Promise.all(names.map(fetchJson));
    const model = new Model();
    model.settings = settings;
    model.tokenizer = new Tokenizer(...tokenizer);
    model.checkTokenizer();
    for (const part of ["image", "question", "token"]) {
      model[part] = await ort.InferenceSession.create(`${part}.onnx`, { executionProviders: ["wasm"] });
    }
    return model;
  }

  // The same text must give the same tokens here as where the model was trained.
  checkTokenizer() {
    for (const { text, ids, bare, said } of this.settings.probes) {
      const same = [this.ids(text), this.ids(text, false)].every((found, i) => String(found) === String([ids, bare][i]));
      if (!same || this.text(bare) !== said) {
        throw new Error(`The tokenizer of this model is read differently here (${JSON.stringify(text)}): use 'biod2c serve'.`);
      }
    }
  }

  ids(text, withSpecial = true) {
    return this.tokenizer.encode(text, { add_special_tokens: withSpecial }).ids;
  }

  text(ids) {
    const options = { skip_special_tokens: true, clean_up_tokenization_spaces: this.settings.tidy_blanks };
    return ids.length ? this.tokenizer.decode(ids, options) : "";
  }

  // What is known of a decoded picture before any question.
  async look(picture) {
    const { image_size: side, image_mean: mean, image_std: deviation, distances } = this.settings;
    const pixels = normalize(resize(picture, side), side, mean, deviation);
    const { distance, ...known } = await this.image.run({ pixel_values: new ort.Tensor("float32", pixels, [1, 3, side, side]) });
    return { known, familiarity: distance ? familiarityOf(distance.data[0], distances) : null };
  }

  // Whether a question is in a script that the tokenizer spells out byte by byte.
  isSpelledOut(question) {
    const letters = (question.match(/\p{L}/gu) ?? []).length;
    return letters > 3 && this.ids(question, false).length > 1.5 * letters;
  }

  // {answer, confidence, calibrated, familiarity, unknownScript} about what `look` gave.
  async ask({ known, familiarity }, question) {
    let { text, probability: sure } = await this.generate(known, question);
    const resting = ["yes", "no"].includes(text) ? askedIn(question, this.settings.attributes) : [];
    if (resting.length) {
      const given = [];
      for (const { question: open } of resting) given.push(await this.generate(known, open));
      ({ text, sure } = conclude(resting, given));
    }
    const judged = judge(text, sure, familiarity, this.settings.calibration);
    return { answer: text, ...judged, familiarity, unknownScript: this.isSpelledOut(question) };
  }

  // {text, probability} of the model's own answer.
  async generate(known, question) {
    const settings = this.settings;
    const asked = strip(question).replace(BLANKS, " ");
    const bare = asked ? this.ids(asked, false) : [];
    if (!bare.length) throw new Error("Ask something about the image.");
    const prompt = this.ids(settings.prompt.replaceAll("{question}", () => asked));
    const needed = settings.visual_tokens + prompt.length + settings.answer_tokens;
    if (settings.most_positions !== null && needed > settings.most_positions) {
      throw new Error(`Image, question and answer would take ${needed} tokens, and the language model reads ${settings.most_positions}: shorten the question.`);
    }
    const fused = (settings.fusion_reads === "prompt" ? prompt : bare).slice(0, settings.question_tokens);
    const seen = await this.question.run({ question_ids: whole(fused), ...known });
    const { ids, logP } = await this.decode(seen, whole(prompt));
    return { text: strip(this.text(ids)), probability: probability(logP) };
  }

  // The likeliest token again and again, up to one that ends the answer, and log p of all of them.
  async decode(seen, prompt) {
    const { ends, answer_tokens: most } = this.settings;
    const ids = [];
    let logP = 0;
    while (ids.length < most && !ends.includes(ids.at(-1))) {
      const { log_p: next } = await this.token.run({ ...seen, prompt_ids: prompt, answer_ids: whole(ids) });
      ids.push(largest(next.data));
      logP += next.data[ids.at(-1)];
    }
    return { ids, logP };
  }
}
