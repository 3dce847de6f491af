// The address holds the whole query: what is typed or clicked changes it, and results follow it.
"use strict";
const COUNT = 24;
const at = (id) => document.getElementById(id);
const TEXTS = ["q", "where", "without"];
let asked = new URLSearchParams();
let shown = 0; // results on the page
let turn = 0; // answers to an earlier query are dropped

async function get(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const reason = content.error || content.detail || `${answer.status} ${answer.statusText}`;
    throw new Error(typeof reason === "string" ? reason : "not a query");
  }
  return content;
}

function say(text, failed = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", failed);
}

function go(query) {
  history.pushState(null, "", `?${query}`);
  follow();
}

function follow() {
  asked = new URLSearchParams(location.search);
  for (const name of TEXTS) at(name).value = asked.get(name) || "";
  if (asked.get("where") || asked.get("without")) at("more-options").open = true;
  at("results").replaceChildren();
  shown = 0;
  turn += 1;
  showMarks();
  const empty = !["q", "upload", "right"].some((name) => asked.get(name));
  at("more").hidden = at("csv").hidden = true;
  say("");
  if (!empty) more();
}

async function more() {
  const mine = turn;
  const query = new URLSearchParams(asked);
  query.set("start", shown);
  query.set("count", COUNT);
  say("Searching…");
  at("more").hidden = true;
  try {
    const results = await get(`search?${query}`);
    if (mine !== turn) return;
    at("results").append(...results.map(tile));
    shown += results.length;
    say(shown ? `${shown} results` : "No image passes the filter.");
    at("more").hidden = results.length < COUNT || shown >= 1000;
    query.set("start", 0);
    query.set("count", Math.max(1, shown));
    at("csv").href = `results.csv?${query}`;
    at("csv").hidden = !shown;
  } catch (error) {
    if (mine === turn) say(error.message, true);
  }
}

function make(tag, attributes, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

function act(text, name, click, pressed) {
  const button = make("button", { type: "button", class: name }, text);
  if (pressed !== undefined) button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", click);
  return button;
}

function tile(result) {
  const words = `rank ${result.rank}, score ${result.score.toFixed(3)}, ${result.name}`;
  const picture = make("img", { src: `image/${result.id}?thumb=true`, alt: words, loading: "lazy" });
  const image = make("button", { type: "button", class: "image" }, picture);
  image.addEventListener("click", () => enlarge(result));
  const fields = ["camera", "time"].filter((name) => result.fields[name] != null);
  const known = fields.map((name) => ` · ${name} ${result.fields[name]}`).join("");
  const like = act("like", "like", () => go(new URLSearchParams({ right: result.id })));
  like.title = "More like this";
  const marks = ["right", "wrong"].map((name) =>
    act(name, name, () => mark(name, result.id), asked.getAll(name).includes(result.id)));
  return make("li", {}, image,
    make("p", { class: "score" }, `${result.rank} · ${result.score.toFixed(3)}${known}`),
    make("div", { class: "acts" }, like, ...marks));
}

function enlarge(result) {
  at("large-image").src = `${result.scene ? "scene" : "image"}/${result.id}`;
  at("large-image").alt = result.name;
  const facts = { file: result.name, score: result.score.toFixed(4), ...result.fields };
  at("large-fields").replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, String(value))]));
  at("why").replaceChildren();
  at("ask-why").onclick = () => explain(result);
  at("large").showModal();
}

async function explain(result) {
  const why = at("why");
  const place = at("large-image").src;
  const isHere = () => at("large").open && at("large-image").src === place;
  why.textContent = "Covering words and places in turn…";
  try {
    const reasons = await get(`why/${result.id}?${asked}`);
    if (!isHere()) return;
    const most = Math.max(...reasons.words.map(({ weight }) => Math.abs(weight)));
    const words = make("ul", { class: "words" }, ...reasons.words.map((one) => wordBar(one, most)));
    const map = reasons.map ? [make("img", { src: reasons.map, alt: "" })] : [];
    why.replaceChildren(
      ...(reasons.words.length ? [make("p", {}, "What the score loses without a word:"), words] : []),
      make("figure", {}, ...map, make("figcaption", {}, reasons.places)));
  } catch (error) {
    if (isHere()) why.textContent = error.message;
  }
}

function wordBar({ word, weight }, most) {
  const bar = make("span", { class: weight < 0 ? "bar less" : "bar", "aria-hidden": "true" });
  bar.style.width = `${most ? (100 * Math.abs(weight)) / most : 0}%`;
  const sign = weight < 0 ? "−" : "+"; // not by colour alone
  return make("li", {}, `${word} ${sign}${Math.abs(weight).toFixed(3)}`, bar);
}

function mark(name, id) {
  const other = name === "right" ? "wrong" : "right";
  const query = new URLSearchParams(asked);
  const marked = query.getAll(name).includes(id);
  for (const one of [name, other]) {
    const rest = query.getAll(one).filter((value) => value !== id);
    query.delete(one);
    rest.forEach((value) => query.append(one, value));
  }
  if (!marked) query.append(name, id);
  go(query);
}

function showMarks() {
  const parts = [];
  if (asked.get("upload")) parts.push("with an image of yours");
  for (const name of ["right", "wrong"]) {
    const count = asked.getAll(name).length;
    if (count) parts.push(`${count} marked ${name}`);
  }
  at("marks").replaceChildren(...(parts.length ? [`Searching ${parts.join(", ")}. `,
    act("Forget these", "forget", () => {
      const query = new URLSearchParams(asked);
      ["upload", "right", "wrong"].forEach((name) => query.delete(name));
      go(query);
    })] : []));
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = new URLSearchParams(asked);
  for (const name of TEXTS) {
    query.delete(name);
    if (at(name).value.trim()) query.set(name, at(name).value.trim());
  }
  go(query);
});

at("file").addEventListener("change", async () => {
  const [file] = at("file").files;
  if (!file) return;
  say("Sending the image…");
  try {
    const { upload } = await get("upload", { method: "POST", body: file });
    const query = new URLSearchParams(asked);
    query.set("upload", upload);
    go(query);
  } catch (error) {
    say(error.message, true);
  }
  at("file").value = "";
});

for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => go(new URLSearchParams({ q: example.textContent })));
}
at("more").addEventListener("click", more);
new IntersectionObserver((entries) => {
  if (entries[0].isIntersecting && !at("more").hidden) more();
}, { rootMargin: "200px" }).observe(at("more"));
addEventListener("popstate", follow);

get("about").then((about) => {
  at("about").textContent = `${about.total.toLocaleString("en")} images.` + (about.synthetic
    ? " The model was trained on synthetic people: on photographs its results mean nothing." : "");
  at("fields").replaceChildren(...about.fields.map((name) => act(name, "field", () => {
    const where = at("where");
    where.value += `${where.value.trim() ? " and " : ""}${name}=`;
    where.focus();
  })));
}).catch((error) => say(error.message, true));
follow();
