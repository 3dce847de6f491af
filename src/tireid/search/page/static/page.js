// The address holds the whole query: what is typed or clicked changes it, and results follow it.
"use strict";
const COUNT = 24;
const at = (id) => document.getElementById(id);
const TEXTS = ["q", "where", "without"];
const TITLE = document.title;
const GONE = "This file is gone, or is another one than was indexed.";
const PLAIN_NAME = /^(?!(and|or|not|in)$)[\p{L}_][\p{L}\p{N}_.-]*$/iu;
let asked = new URLSearchParams();
let found = []; // results on the page
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

function go(query, count) {
  history.pushState(null, "", `?${query}`);
  follow(count);
}

function follow(count = COUNT) {
  asked = new URLSearchParams(location.search);
  for (const name of TEXTS) at(name).value = asked.get(name) || "";
  document.title = asked.get("q") ? `${asked.get("q")} · ${TITLE}` : TITLE;
  if (asked.get("where") || asked.get("without")) at("more-options").open = true;
  turn += 1;
  showMarks();
  const empty = !["q", "upload", "right"].some((name) => asked.get(name));
  at("more").hidden = at("csv").hidden = true;
  say("");
  if (empty) replace([]);
  else load(0, count);
}

async function load(start, count) {
  const mine = turn;
  const query = new URLSearchParams(asked);
  query.set("start", start);
  query.set("count", count);
  say("Searching…");
  at("more").hidden = true;
  at("results").setAttribute("aria-busy", "true"); // those before stay until there are others
  try {
    const results = await get(`search?${query}`);
    if (mine !== turn) return;
    if (start) append(results);
    else replace(results);
    const shown = found.length;
    say(shown ? `${shown} results, best first` : nothing());
    at("more").hidden = results.length < count || shown >= 1000;
    query.set("start", 0);
    query.set("count", Math.max(1, shown));
    at("csv").href = `results.csv?${query}`;
    at("csv").hidden = !shown;
  } catch (error) {
    if (mine !== turn) return;
    if (!start) replace([]);
    say(error.message, true);
  }
}

function nothing() {
  return asked.get("where") ? "No image passes the filter." : "The index holds no images.";
}

function append(results) {
  at("results").append(...results.map((result, place) => tile(result, found.length + place)));
  found = found.concat(results);
  at("results").removeAttribute("aria-busy");
}

/* Show other results; who is at a button of an image by keyboard stays there. */
function replace(results) {
  const before = document.activeElement;
  const id = before.closest("#results li")?.dataset.id;
  found = [];
  at("results").replaceChildren();
  append(results);
  if (!id) return;
  const same = at("results").querySelector(`[data-id="${id}"] .${before.classList[0]}`);
  (same || at("results").querySelector("button") || at("q")).focus({ preventScroll: true });
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

function tile(result, place) {
  const words = `rank ${result.rank}, score ${result.score.toFixed(3)}, ${result.name}`;
  const picture = make("img", { src: `image/${result.id}?thumb=true`, alt: words, loading: "lazy" });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { class: "gone" }, GONE)));
  const image = make("button", { type: "button", class: "image" }, picture);
  image.addEventListener("click", () => enlarge(place));
  const fields = ["camera", "time"].filter((name) => result.fields[name] != null);
  const known = fields.map((name) => ` · ${name} ${result.fields[name]}`).join("");
  const like = act("like", "like", () => {
    go(new URLSearchParams({ right: result.id }));
    scrollTo(0, 0);
  });
  like.title = "More like this";
  const marks = ["right", "wrong"].map((name) =>
    act(name, name, () => mark(name, result.id), asked.getAll(name).includes(result.id)));
  return make("li", { "data-id": result.id }, image,
    make("p", { class: "score" }, `${result.rank} · ${result.score.toFixed(3)}${known}`),
    make("div", { class: "acts" }, like, ...marks));
}

function enlarge(place) {
  const result = found[place];
  at("large-image").src = `${result.scene ? "scene" : "image"}/${result.id}`;
  at("large-image").alt = result.name;
  at("before").disabled = place === 0;
  at("after").disabled = place === found.length - 1;
  at("before").onclick = () => enlarge(place - 1);
  at("after").onclick = () => enlarge(place + 1);
  const facts = { file: result.name, rank: result.rank, score: result.score.toFixed(4), ...result.fields };
  at("large-fields").replaceChildren(...Object.entries(facts).flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, String(value ?? ""))]));
  at("why").replaceChildren();
  at("ask-why").onclick = () => explain(result);
  if (!at("large").open) at("large").showModal();
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
  go(query, Math.max(COUNT, found.length));
}

function showMarks() {
  const parts = [];
  if (asked.get("upload")) parts.push("an image of yours");
  for (const name of ["right", "wrong"]) {
    const count = asked.getAll(name).length;
    if (count) parts.push(`${count} marked ${name}`);
  }
  at("marks").replaceChildren(...(parts.length ? [`Refined by ${parts.join(", ")}. `,
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
const more = () => load(found.length, COUNT);
at("more").addEventListener("click", more);
new IntersectionObserver((entries) => {
  if (entries[0].isIntersecting && !at("more").hidden) more();
}, { rootMargin: "200px" }).observe(at("more"));
addEventListener("popstate", () => follow());
at("large-image").addEventListener("error", () => { at("large-image").alt = GONE; });
at("large").addEventListener("keydown", (event) => {
  const button = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
  if (button) at(button).click();
});

get("about").then((about) => {
  at("about").textContent = `${about.total.toLocaleString("en")} images.` + (about.synthetic
    ? " The model was trained on synthetic people: on photographs its results mean nothing." : "");
  at("fields").replaceChildren(...about.fields.map((name) => act(name, "field", () => {
    const where = at("where");
    where.value += `${where.value.trim() ? " and " : ""}${PLAIN_NAME.test(name) ? name : `"${name}"`}=`;
    where.focus();
  })));
}).catch((error) => say(error.message, true));
follow();
