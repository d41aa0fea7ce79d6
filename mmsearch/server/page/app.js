// The search page: keeps the form, the address, the hits and the open picture in sync.

import { FILTER_FIELDS, ProblemError, ROOT, fetchJson, parseLocation, hasQuery, search, searchBySpeech, split, formatLocation } from "./search_form.js";
import { Details } from "./details.js";
import { fileNameFromUrl, renderChips, bindUpload } from "./upload.js";
import { Grid } from "./grid.js";
import { bindIndexPanel } from "./admin.js";
import { bindSpeech } from "./speech.js";

const TYPING_MS = 200;
const MAX_CACHED_RESULTS = 20;

const element = (id) => document.getElementById(id);
const form = element("search");
const index = document.body.dataset.index;
const limit = Number(document.body.dataset.limit);

const uploads = new Map();
const resultCache = new Map();
let searchState = parseLocation(location.search);
let upload = null;
let answer = null;
let displayedKey = null;
let controller = new AbortController();
let timer = 0;
let typing = false;

const grid = new Grid(element("hits"), (id) => open(id, true));
const details = new Details({ onClose, onMove, alike });

/** Return the cache key of the hits, which does not depend on the open picture. */
function key() {
  return `${upload?.id ?? ""} ${formatLocation({ ...searchState, picture: "" })}`;
}

function updateHistory(push) {
  const state = { upload: upload?.id ?? null, opened: push && searchState.picture !== "" };
  history[push ? "pushState" : "replaceState"](state, "", formatLocation(searchState));
  updateTitle();
}

function updateTitle() {
  const { q, like, like_url: url } = searchState;
  const picture = upload?.name ?? (like ? `like picture ${split(like).join(", ")}` : url && fileNameFromUrl(url));
  const title = [q.trim(), picture].filter(Boolean).join(", ");
  document.title = title ? `${title} - mmsearch` : "mmsearch";
}

function renderForm() {
  for (const field of form.elements) {
    if (field.name && searchState[field.name] !== undefined) field.value = searchState[field.name];
  }
  if (element("index")) element("index").value = index;
  const given = upload
    ? [{ source: upload.source, name: upload.name, drop: () => removePictures([]) }]
    : split(searchState.like).map((id, _, all) => ({
        source: `${ROOT}/v1/indexes/${encodeURIComponent(index)}/pictures/${encodeURIComponent(id)}/thumbnail?size=small`,
        name: `like picture ${id}`,
        drop: () => removePictures(all.filter((other) => other !== id)),
      }));
  if (searchState.like_url) {
    given.push({ source: null, name: fileNameFromUrl(searchState.like_url), drop: () => change({ like_url: "" }) });
  }
  renderChips(given);
}

function change(changes, { push = true, picture = upload } = {}) {
  searchState = { ...searchState, picture: "", ...changes };
  upload = picture;
  updateHistory(push);
  renderForm();
  runSearch();
}

function removePictures(left) {
  change({ like: left.join(",") }, { picture: null });
  element("q").focus();
}

function alike(hit) {
  details.hide();
  change({ q: "", not: "", like: String(hit.id), like_url: "" }, { picture: null });
  // Focusing the hits would scroll past the search field and its picture.
  element("hits").focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Cancel the pending search, so that its late answer is not shown. */
function cancelPending() {
  clearTimeout(timer);
  controller.abort();
  controller = new AbortController();
  element("count").classList.remove("waiting");
}

async function runSearch() {
  cancelPending();
  const { signal } = controller;
  const cacheKey = key();
  if (!hasQuery(searchState, upload)) {
    show({ hits: [], next_cursor: null }, cacheKey);
    return;
  }
  element("count").classList.add("waiting");
  try {
    show(resultCache.get(cacheKey) ?? (await search(index, searchState, upload, { limit, signal })), cacheKey);
  } catch (error) {
    showError(error, runSearch);
  }
}

function show(found, cacheKey) {
  answer = { ...found, hits: [...found.hits] };
  displayedKey = cacheKey;
  cacheResults();
  const ranked = ["", "score"].includes(searchState.sort);
  grid.show(answer.hits, { calibrated: answer.calibrated ?? false, ranked });
  say();
}

function cacheResults() {
  if (!hasQuery(searchState, upload)) return;
  resultCache.delete(displayedKey);
  resultCache.set(displayedKey, answer);
  if (resultCache.size > MAX_CACHED_RESULTS) resultCache.delete(resultCache.keys().next().value);
}

function say() {
  const asking = hasQuery(searchState, upload);
  const count = element("count");
  count.classList.remove("waiting");
  const shown = answer.hits.length;
  count.textContent = !asking
    ? ""
    : (shown === 0
        ? "No picture passes the filters"
        : `${shown} of ${answer.passed} pictures, ${element("sort").selectedOptions[0]?.label ?? "best match first"}`) +
      (answer.undated ? `; ${answer.undated} without a known date left out` : "");
  element("problem").hidden = true;
  const notices = (asking && answer.notices) || [];
  const guesses =
    notices.find((notice) => notice.code === "best_guesses")?.text ??
    (answer.match === "unlikely" && answer.calibrated ? "No good matches. Closest results:" : "");
  element("nothing").textContent = guesses;
  element("nothing").hidden = !(asking && shown && guesses);
  element("notices").replaceChildren(...notices.filter(({ code }) => code !== "best_guesses").map(createNotice));
  element("more").hidden = !answer.next_cursor;
  // An observer reports only changes; on a tall screen the end may still be visible.
  endObserver.unobserve(element("more"));
  if (answer.next_cursor) endObserver.observe(element("more"));
  element("start").hidden = asking;
}

function createNotice({ text, suggestion }) {
  const line = document.createElement("p");
  if (!suggestion) {
    line.textContent = text;
    return line;
  }
  const link = document.createElement("a");
  link.href = formatLocation({ ...searchState, q: suggestion, picture: "" });
  link.textContent = text;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change({ q: suggestion });
    element("q").focus();
  });
  line.append(link);
  return line;
}

function showError(error, again) {
  if (error.name === "AbortError") return;
  if (!(error instanceof ProblemError)) throw error;
  element("problem-text").textContent = error.message;
  element("problem").hidden = false;
  element("again").hidden = error.status !== 0 && error.status < 429;
  element("again").onclick = again;
  if (again === runSearch) {
    element("count").classList.remove("waiting");
    element("count").textContent = "";
    element("start").hidden = true;
    element("nothing").hidden = true;
    element("notices").replaceChildren();
    grid.show([]);
    answer = null;
    displayedKey = null;
    element("more").hidden = true;
  }
}

let fetchingKey = null;

async function more(focus) {
  if (!answer?.next_cursor || fetchingKey === displayedKey) return;
  const cacheKey = (fetchingKey = displayedKey);
  const before = answer.hits.length;
  const { signal } = controller;
  try {
    const page = await search(index, searchState, upload, { limit, signal, cursor: answer.next_cursor });
    if (cacheKey !== displayedKey) return;
    answer.hits.push(...page.hits);
    answer.next_cursor = page.next_cursor;
    grid.append(page.hits);
    say();
    if (focus) grid.focusAt(before);
  } catch (error) {
    showError(error, () => more(false));
  } finally {
    if (fetchingKey === cacheKey) fetchingKey = null;
  }
}

async function open(id, push) {
  const at = answer?.hits.findIndex((hit) => hit.id === id) ?? -1;
  try {
    const path = `${ROOT}/v1/indexes/${encodeURIComponent(index)}/pictures/${id}`;
    const hit = at < 0 ? await fetchJson(path) : answer.hits[at];
    const last = at < 0 || (at + 1 === answer.hits.length && !answer.next_cursor);
    searchState = { ...searchState, picture: String(id) };
    if (push) updateHistory(true);
    details.show(hit, { calibrated: answer?.calibrated ?? false, first: at <= 0, last });
  } catch (error) {
    showError(error, () => open(id, push));
  }
}

async function onMove(step) {
  const position = () => answer?.hits.findIndex((hit) => hit.id === details.hit?.id) ?? -1;
  if (position() < 0) return;
  if (position() + step === answer.hits.length) await more(false);
  const next = answer.hits[position() + step];
  if (!next) return;
  const { opened, upload: uploadId } = history.state ?? {};
  await open(next.id, false);
  history.replaceState({ opened, upload: uploadId ?? null }, "", formatLocation(searchState));
}

function onClose() {
  const id = details.hit.id;
  details.hit = null;
  if (history.state?.opened) {
    history.back();
  } else {
    searchState = { ...searchState, picture: "" };
    updateHistory(false);
  }
  grid.focus(id) || element("q").focus();
}

function restoreState() {
  const uploadId = history.state?.upload ?? null;
  searchState = parseLocation(location.search);
  upload = uploads.get(uploadId) ?? null;
  typing = false;
  updateTitle();
  renderForm();
  const found = key() === displayedKey ? Promise.resolve(cancelPending()) : runSearch();
  if (searchState.picture) {
    found.then(() => open(Number(searchState.picture), false));
  } else {
    details.hide();
  }
}

function formValues() {
  return Object.fromEntries(new FormData(form).entries());
}

form.addEventListener("input", (event) => {
  if (!event.target.name) return;
  // The first keystroke adds a history entry; further ones replace it.
  searchState = { ...searchState, ...formValues(), picture: "" };
  updateHistory(!typing);
  typing = true;
  clearTimeout(timer);
  timer = setTimeout(runSearch, TYPING_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  change(formValues(), { push: !typing });
  typing = false;
});
element("index")?.addEventListener("change", () => location.assign(`${ROOT}/?${new URLSearchParams(formValues())}`));
element("clear").addEventListener("click", () => {
  change(Object.fromEntries(["not", ...FILTER_FIELDS, "sort"].map((name) => [name, ""])));
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
addEventListener("popstate", restoreState);

const endObserver = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && more(false), {
  rootMargin: "600px",
});

function given(file) {
  const picture = { id: crypto.getRandomValues(new Uint32Array(1))[0], file };
  uploads.set(picture.id, { ...picture, source: URL.createObjectURL(file), name: file.name || "a picture" });
  details.hide();
  change({ like: "", like_url: "" }, { picture: uploads.get(picture.id) });
}

function searchByUrl(url) {
  details.hide();
  change({ like: "", like_url: url }, { picture: null });
}

async function searchRecording(recording) {
  const found = await searchBySpeech(index, searchState, recording, { limit });
  const heard = { q: found.query, like: "", like_url: "" };
  // The hits are shown as those of the words, which stay in the search field to be corrected.
  resultCache.set(` ${formatLocation({ ...searchState, ...heard, picture: "" })}`, found);
  details.hide();
  change(heard, { picture: null });
  element("q").focus();
  return found.heard.text;
}

bindSpeech(document.body.dataset.speech === "true", searchRecording);
bindUpload(given, document.body.dataset.urls === "true" ? searchByUrl : null);
bindIndexPanel(index, document.body.dataset.indexing === "true", () => {
  resultCache.clear();
  if (hasQuery(searchState, upload)) runSearch();
});
element("clear").hidden = false;
element("start-hint").hidden = false;

const rendered = JSON.parse(element("answer").textContent);
if (rendered && !new URLSearchParams(location.search).has("cursor")) show(rendered, key());
restoreState();
