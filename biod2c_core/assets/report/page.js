"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("questions");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const PAGE = 60;
  let matching = [];
  let shown = 0;

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // A value may list several: "POS, PRES" belongs to both.
  const parts = (value) => value.split(",").map((part) => part.trim());

  const addSelect = (name, title, options) => {
    const label = element("label", title);
    const select = element("select");
    select.name = name;
    for (const [value, text] of options) {
      const option = element("option", text);
      option.value = value;
      select.append(option);
    }
    label.append(select);
    form.append(label);
  };

  const buildForm = () => {
    addSelect("verdict", "Answer", [["", "all"], ["right", "right"], ["partly", "partly right"],
      ["wrong", "wrong"]]);
    const values = new Map();
    for (const question of data.questions) {
      for (const [tag, value] of Object.entries(question.filters)) {
        if (!values.has(tag)) values.set(tag, new Set());
        parts(value).forEach((part) => values.get(tag).add(part));
      }
    }
    for (const [tag, found] of [...values].sort()) {
      if (found.size < 2 || found.size > 60) continue;
      const options = [...found].sort().map((value) => [value, value]);
      addSelect("tag:" + tag, tag.replaceAll("_", " "), [["", "all"], ...options]);
    }
    addSelect("order", "Order", [["", "as in the data"], ["sure", "most confident first"],
      ["unsure", "least confident first"]]);
    const label = element("label", "Search");
    const search = element("input");
    search.type = "search";
    search.name = "search";
    label.append(search);
    form.append(label);
  };

  const matches = (question, state) => {
    for (const [name, wanted] of state) {
      if (!wanted || name === "order") continue;
      if (name === "verdict" && question.verdict !== wanted) return false;
      if (name === "search") {
        const text = [question.question, question.gold, question.answer, question.id].join("\n");
        if (!text.toLowerCase().includes(wanted.toLowerCase())) return false;
      }
      if (name.startsWith("tag:")) {
        const value = question.filters[name.slice(4)];
        if (value === undefined || !parts(value).includes(wanted)) return false;
      }
    }
    return true;
  };

  const card = (question) => {
    const article = element("article", undefined, question.verdict);
    article.dataset.id = question.id;
    const picture = data.images[question.image];
    if (picture) {
      const image = element("img");
      image.src = picture;
      image.loading = "lazy";
      image.alt = data.names[question.image];
      article.append(image);
    } else {
      article.append(element("small", "image not shown: " + data.names[question.image]));
    }
    article.append(element("p", question.question));
    const said = element("p", question.answer || "(no answer)", "said " + question.verdict);
    article.append(said, element("p", "gold: " + question.gold));
    const facts = [question.id, question.verdict];
    if (question.confidence !== null) facts.push("confidence " + question.confidence.toFixed(2));
    article.append(element("small", facts.join(" · ")));
    return article;
  };

  const showMore = () => {
    list.append(...matching.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, matching.length);
    more.hidden = shown >= matching.length;
  };

  const update = () => {
    const state = [...new FormData(form)];
    matching = data.questions.filter((question) => matches(question, state));
    const order = form.elements.order.value;
    if (order) {
      const sign = order === "sure" ? -1 : 1;
      matching.sort((a, b) => sign * ((a.confidence ?? 0) - (b.confidence ?? 0)));
    }
    const right = matching.filter((question) => question.verdict === "right").length;
    count.textContent = `${matching.length} of ${data.questions.length} questions, ${right} right`;
    list.replaceChildren();
    shown = 0;
    showMore();
    const kept = new URLSearchParams(state.filter(([, value]) => value));
    history.replaceState(null, "", "#" + kept);
  };

  const restore = () => {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (form.elements[name]) form.elements[name].value = value;
    }
  };

  const metric = document.getElementById("metric");
  if (metric) {
    metric.addEventListener("change", () => {
      for (const figure of document.querySelectorAll("figure[data-metric]")) {
        figure.hidden = figure.dataset.metric !== metric.value;
      }
    });
  }
  buildForm();
  restore();
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  update();
})();
