// The search: fields, address, hits and one open picture, kept in step.

import { ProblemError, ask, fromAddress, isAsking, search, split, toAddress } from "./asking.js";
import { Details } from "./details.js";
import { nameOf, showGiven, takePictures } from "./giving.js";
import { Grid } from "./grid.js";
import { tendIndex } from "./upkeep.js";

const TYPING_MS = 200;
const REMEMBERED = 20;

const element = (id) => document.getElementById(id);
const form = element("search");
const index = document.body.dataset.index;
const limit = Number(document.body.dataset.limit);

const uploads = new Map();
const remembered = new Map();
let asked = fromAddress(location.search);
let upload = null;
let answer = null;
let shownFor = null;
let controller = new AbortController();
let timer = 0;
let typing = false;

const grid = new Grid(element("hits"), (id) => open(id, true));
const details = new Details({ closed, moved, alike });

/** What decides the hits; the picture that is open does not. */
function key() {
  return `${upload?.id ?? ""} ${toAddress({ ...asked, picture: "" })}`;
}

function note(push) {
  const state = { upload: upload?.id ?? null, opened: push && asked.picture !== "" };
  history[push ? "pushState" : "replaceState"](state, "", toAddress(asked));
  document.title = asked.q ? `${asked.q} - mmsearch` : "mmsearch";
}

function fill() {
  for (const field of form.elements) {
    if (field.name && asked[field.name] !== undefined) field.value = asked[field.name];
  }
  if (element("index")) element("index").value = index;
  const given = upload
    ? [{ source: upload.source, name: upload.name, drop: () => dropPictures([]) }]
    : split(asked.like).map((id, _, all) => ({
        source: `/v1/indexes/${encodeURIComponent(index)}/pictures/${encodeURIComponent(id)}/thumbnail?size=small`,
        name: `like picture ${id}`,
        drop: () => dropPictures(all.filter((other) => other !== id)),
      }));
  if (asked.like_url) {
    given.push({ source: null, name: nameOf(asked.like_url), drop: () => change({ like_url: "" }) });
  }
  showGiven(given);
}

function change(changes, { push = true, picture = upload } = {}) {
  asked = { ...asked, picture: "", ...changes };
  upload = picture;
  note(push);
  fill();
  find();
}

function dropPictures(left) {
  change({ like: left.join(",") }, { picture: null });
  element("q").focus();
}

function alike(hit) {
  details.hide();
  change({ q: "", not: "", like: String(hit.id), like_url: "" }, { picture: null });
  scrollTo(0, 0);
  element("hits").focus();
}

/** Nothing that was asked before may come and be shown. */
function forget() {
  clearTimeout(timer);
  controller.abort();
  controller = new AbortController();
  element("count").classList.remove("waiting");
}

async function find() {
  forget();
  const { signal } = controller;
  const wanted = key();
  if (!isAsking(asked, upload)) {
    show({ hits: [], next_cursor: null }, wanted);
    return;
  }
  element("count").classList.add("waiting");
  try {
    show(remembered.get(wanted) ?? (await search(index, asked, upload, { limit, signal })), wanted);
  } catch (error) {
    fail(error, find);
  }
}

function show(found, wanted) {
  answer = { ...found, hits: [...found.hits] };
  shownFor = wanted;
  remember();
  grid.show(answer.hits);
  say();
}

function remember() {
  if (!isAsking(asked, upload)) return;
  remembered.delete(shownFor);
  remembered.set(shownFor, answer);
  if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
}

function say() {
  const asking = isAsking(asked, upload);
  const count = element("count");
  count.classList.remove("waiting");
  const shown = answer.hits.length;
  count.textContent = !asking
    ? ""
    : shown === 0
      ? "No picture passes"
      : `${shown} of ${answer.passed} pictures, best match first`;
  element("problem").hidden = true;
  element("nothing").hidden = !(asking && shown && answer.match === "unlikely" && answer.calibrated);
  element("more").hidden = !answer.next_cursor;
  // An observer reports changes only: on a tall screen the end may still be in view.
  nearEnd.unobserve(element("more"));
  if (answer.next_cursor) nearEnd.observe(element("more"));
  element("start").hidden = asking;
}

function fail(error, again) {
  if (error.name === "AbortError") return;
  if (!(error instanceof ProblemError)) throw error;
  element("problem-text").textContent = error.message;
  element("problem").hidden = false;
  element("again").hidden = error.status !== 0 && error.status < 429;
  element("again").onclick = again;
  if (again === find) {
    element("count").classList.remove("waiting");
    element("count").textContent = "";
    element("start").hidden = true;
    element("nothing").hidden = true;
    grid.show([]);
    answer = null;
    shownFor = null;
    element("more").hidden = true;
  }
}

let fetching = null;

async function more(focus) {
  if (!answer?.next_cursor || fetching === shownFor) return;
  const wanted = (fetching = shownFor);
  const before = answer.hits.length;
  const { signal } = controller;
  try {
    const page = await search(index, asked, upload, { limit, signal, cursor: answer.next_cursor });
    if (wanted !== shownFor) return;
    answer.hits.push(...page.hits);
    answer.next_cursor = page.next_cursor;
    grid.append(page.hits);
    say();
    if (focus) grid.focusAt(before);
  } catch (error) {
    fail(error, () => more(false));
  } finally {
    if (fetching === wanted) fetching = null;
  }
}

async function open(id, push) {
  const at = answer?.hits.findIndex((hit) => hit.id === id) ?? -1;
  try {
    const path = `/v1/indexes/${encodeURIComponent(index)}/pictures/${id}`;
    const hit = at < 0 ? await ask(path) : answer.hits[at];
    const last = at < 0 || (at + 1 === answer.hits.length && !answer.next_cursor);
    asked = { ...asked, picture: String(id) };
    if (push) note(true);
    details.show(hit, { calibrated: answer?.calibrated ?? false, first: at <= 0, last });
  } catch (error) {
    fail(error, () => open(id, push));
  }
}

async function moved(step) {
  const place = () => answer?.hits.findIndex((hit) => hit.id === details.hit?.id) ?? -1;
  if (place() < 0) return;
  if (place() + step === answer.hits.length) await more(false);
  const next = answer.hits[place() + step];
  if (!next) return;
  const { opened, upload: kept } = history.state ?? {};
  await open(next.id, false);
  history.replaceState({ opened, upload: kept ?? null }, "", toAddress(asked));
}

function closed() {
  const id = details.hit.id;
  details.hit = null;
  if (history.state?.opened) {
    history.back();
  } else {
    asked = { ...asked, picture: "" };
    note(false);
  }
  grid.focus(id) || element("q").focus();
}

function restore() {
  const kept = history.state?.upload ?? null;
  asked = fromAddress(location.search);
  upload = uploads.get(kept) ?? null;
  typing = false;
  document.title = asked.q ? `${asked.q} - mmsearch` : "mmsearch";
  fill();
  const found = key() === shownFor ? Promise.resolve(forget()) : find();
  if (asked.picture) {
    found.then(() => open(Number(asked.picture), false));
  } else {
    details.hide();
  }
}

function fields() {
  return Object.fromEntries(new FormData(form).entries());
}

form.addEventListener("input", (event) => {
  if (!event.target.name) return;
  // The first letter begins a new search, the others go on with it.
  asked = { ...asked, ...fields(), picture: "" };
  note(!typing);
  typing = true;
  clearTimeout(timer);
  timer = setTimeout(find, TYPING_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  change(fields(), { push: !typing });
  typing = false;
});
element("index")?.addEventListener("change", () => location.assign(`/?${new URLSearchParams(fields())}`));
element("clear").addEventListener("click", () => {
  const empty = ["not", "after", "before", "path", "camera", "min_width", "orientation"];
  change(Object.fromEntries(empty.map((name) => [name, ""])));
});
element("more").addEventListener("click", (event) => {
  event.preventDefault();
  more(true);
});
document.addEventListener("keydown", (event) => {
  if (details.dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("input, select, textarea");
  if (event.key === "/" && !inField) {
    event.preventDefault();
    element("q").focus();
    element("q").select();
  } else if (event.key === "ArrowDown" && event.target.id === "q") {
    event.preventDefault();
    grid.focusAt(0);
  }
});
addEventListener("popstate", restore);

const nearEnd = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && more(false), {
  rootMargin: "600px",
});

function given(file) {
  const picture = { id: crypto.getRandomValues(new Uint32Array(1))[0], file };
  uploads.set(picture.id, { ...picture, source: URL.createObjectURL(file), name: file.name || "a picture" });
  details.hide();
  change({ like: "", like_url: "" }, { picture: uploads.get(picture.id) });
}

function named(url) {
  details.hide();
  change({ like: "", like_url: url }, { picture: null });
}

takePictures(given, document.body.dataset.urls === "true" ? named : null);
tendIndex(index, document.body.dataset.indexing === "true", () => {
  remembered.clear();
  if (isAsking(asked, upload)) find();
});
element("clear").hidden = false;
element("start-hint").hidden = false;

const rendered = JSON.parse(element("answer").textContent);
if (rendered && !new URLSearchParams(location.search).has("cursor")) show(rendered, key());
restore();
