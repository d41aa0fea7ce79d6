// The search page: keeps the form, the address, the hits and the open picture in sync.

import { FILTER_FIELDS, ProblemError, ROOT, fetchJson, parseLocation, hasQuery, search, searchBySpeech, joinValues, valuesOf, formatLocation } from "./search_form.js";
import { Details } from "./details.js";
import { fileNameFromUrl, bindUpload } from "./upload.js";
import { renderChips } from "./chips.js";
import { Facets } from "./facets.js";
import { bindSuggestions } from "./suggestions.js";
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

const grid = new Grid(element("hits"), (id) => open(id, true), vote);
const details = new Details({ onClose, onMove, alike, onOpen: replace });
const facets = new Facets(element("facets"), index, narrow);

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
  const picture = upload?.name ?? (like ? `like picture ${valuesOf(searchState, "like").join(", ")}` : url && fileNameFromUrl(url));
  const title = [q.trim(), picture].filter(Boolean).join(", ");
  document.title = title ? `${title} - mmsearch` : "mmsearch";
}

function renderForm() {
  for (const field of form.elements) {
    if (field.name && searchState[field.name] !== undefined) field.value = searchState[field.name];
  }
  if (element("index")) element("index").value = index;
  renderChips(element("given"), [...pictureChips(), ...filterChips()]);
}

function pictureChips() {
  const chips = upload
    ? [{ source: upload.source, name: upload.name, drop: () => removeChip({}, { picture: null }) }]
    : [];
  for (const field of ["like", "unlike"]) {
    const ids = valuesOf(searchState, field);
    for (const id of ids) {
      chips.push({
        source: `${ROOT}/v1/indexes/${encodeURIComponent(index)}/pictures/${encodeURIComponent(id)}/thumbnail?size=small`,
        name: `${field} picture ${id}`,
        drop: () => removeChip({ [field]: joinValues(field, ids.filter((other) => other !== id)) }),
      });
    }
  }
  if (searchState.like_url) {
    chips.push({ name: fileNameFromUrl(searchState.like_url), drop: () => removeChip({ like_url: "" }) });
  }
  return chips;
}

/** Return the chip of a filter that was read in words; without it, these words describe the picture. */
function understoodChip({ label, words }) {
  const literal = [...valuesOf(searchState, "literal_words"), words];
  return { name: label, drop: () => removeChip({ literal_words: joinValues("literal_words", literal) }) };
}

/** Return a chip for each filter, which is visible while its field is not. */
function filterChips() {
  return FILTER_FIELDS.filter((name) => searchState[name].trim()).map((name) => {
    const label = form.querySelector(`label[for="${name}"]`).textContent;
    return { name: `${label}: ${searchState[name]}`, drop: () => removeChip({ [name]: "" }) };
  });
}

function change(changes, { push = true, picture = upload } = {}) {
  searchState = { ...searchState, picture: "", ...changes };
  upload = picture;
  updateHistory(push);
  renderForm();
  return runSearch();
}

function removeChip(changes, options) {
  change(changes, options);
  element("q").focus();
}

/** Rank hits like a picture higher or lower, or take that back. */
function vote(field, id) {
  const other = field === "like" ? "unlike" : "like";
  const without = (name) => valuesOf(searchState, name).filter((each) => each !== String(id));
  const isSet = valuesOf(searchState, field).includes(String(id));
  const votes = { [field]: isSet ? without(field) : [...without(field), id], [other]: without(other) };
  const at = answer.hits.findIndex((hit) => hit.id === id);
  change(Object.fromEntries(Object.entries(votes).map(([name, ids]) => [name, joinValues(name, ids)])))
    .then(() => grid.focusVote(field, id) || grid.focusAt(Math.min(at, answer?.hits.length - 1)));
}

/** Add a filter to those of the search; a second condition holds beside the first one. */
function narrow(filter) {
  const changes = {};
  for (const [name, given] of Object.entries(filter)) {
    const value = Array.isArray(given) ? joinValues(name, given) : String(given);
    const known = searchState[name].trim();
    changes[name] = name === "where" && known && known !== value ? `(${known}) and (${value})` : value;
  }
  change(changes);
}

function alike(hit) {
  details.hide();
  change({ q: "", not: "", like: String(hit.id), unlike: "", like_url: "" }, { picture: null });
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
  const votes = { like: valuesOf(searchState, "like"), unlike: valuesOf(searchState, "unlike") };
  grid.show(answer.hits, { calibrated: answer.calibrated ?? false, ranked, votes });
  facets.show(upload || searchState.like_url ? null : searchState);
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
  renderChips(element("understood"), (asking && answer.understood?.chips || []).map(understoodChip));
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
    renderChips(element("understood"), []);
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
  if (next) await replace(next.id);
}

/** Show another picture in place of the one that is open. */
async function replace(id) {
  const { opened, upload: uploadId } = history.state ?? {};
  await open(id, false);
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
  const { q } = formValues();
  const kept = valuesOf(searchState, "literal_words").filter((words) => q.includes(words));
  searchState = { ...searchState, ...formValues(), literal_words: joinValues("literal_words", kept), picture: "" };
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
  change(Object.fromEntries(["not", ...FILTER_FIELDS, "fold", "literal", "literal_words", "sort"].map((name) => [name, ""])));
});
element("more").addEventListener("click", (event) => {
  event.preventDefault();
  more(true);
});
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || details.dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
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
  change({ like: "", unlike: "", like_url: "" }, { picture: uploads.get(picture.id) });
}

function searchByUrl(url) {
  details.hide();
  change({ like: "", unlike: "", like_url: url }, { picture: null });
}

async function searchRecording(recording) {
  const found = await searchBySpeech(index, searchState, recording, { limit });
  const heard = { q: found.query, like: "", unlike: "", like_url: "" };
  // The hits are shown as those of the words, which stay in the search field to be corrected.
  resultCache.set(` ${formatLocation({ ...searchState, ...heard, picture: "" })}`, found);
  details.hide();
  change(heard, { picture: null });
  element("q").focus();
  return found.heard.text;
}

bindSpeech(document.body.dataset.speech === "true", searchRecording);
bindUpload(given, document.body.dataset.urls === "true" ? searchByUrl : null);
bindSuggestions(index, element("q"), element("suggestions"), (text) => change({ q: text }, { push: !typing }));
bindIndexPanel(index, document.body.dataset.indexing === "true", () => {
  resultCache.clear();
  facets.forget();
  if (hasQuery(searchState, upload)) runSearch();
});
element("clear").hidden = false;
element("start-hint").hidden = false;

const rendered = JSON.parse(element("answer").textContent);
if (rendered && !new URLSearchParams(location.search).has("cursor")) show(rendered, key());
restoreState();
