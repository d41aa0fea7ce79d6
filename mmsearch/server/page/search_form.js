// Search state: conversion between form fields, the page's address and requests.

/** Type of the value of each filter ("text", "number", "flag" or "list"), by name; the server renders their fields. */
const FILTER_TYPES = new Map(
  Array.from(document.querySelectorAll("[data-filter]"), (field) => [field.name, field.dataset.filter]));

/** Names of the filters. */
export const FILTER_FIELDS = [...FILTER_TYPES.keys()];

/** Path below which a proxy serves the page; "" for none. */
export const ROOT = document.body.dataset.root;

const LIST_FIELDS = ["not", "like", "unlike", "literal_words"];

/** What separates the values of fields that hold several; words, names and paths may contain commas. */
const SEPARATORS = {
  not: ",", like: ",", unlike: ",", literal_words: "\n",
  ...Object.fromEntries(FILTER_FIELDS.filter((name) => FILTER_TYPES.get(name) === "list").map((name) => [name, ";"])),
};

const SINGLE_FIELDS = ["q", "like_url", ...FILTER_FIELDS, "fold", "literal", "sort", "index"];

/** An error whose message is shown to the user. */
export class ProblemError extends Error {
  /**
   * @param {string} message The problem and the next step.
   * @param {number} status HTTP status of the response; 0 if there was none.
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Return the values of a field that holds several, without empty ones. */
export function valuesOf(searchState, name) {
  return searchState[name].split(SEPARATORS[name]).map((part) => part.trim()).filter(Boolean);
}

/** Return the text of a field that holds several values. */
export function joinValues(name, values) {
  return values.join(["like", "unlike", "literal_words"].includes(name) ? SEPARATORS[name] : `${SEPARATORS[name]} `);
}

/**
 * Parse the query string of an address into the search state.
 *
 * @param {string} search Query string, with or without "?".
 * @returns {Record<string, string>} A text for each field; "picture" is the id of the open picture.
 */
export function parseLocation(search) {
  const params = new URLSearchParams(search);
  const searchState = Object.fromEntries(LIST_FIELDS.map((name) => [name, joinValues(name, params.getAll(name))]));
  for (const name of [...SINGLE_FIELDS, "picture"]) {
    searchState[name] = name in SEPARATORS ? joinValues(name, params.getAll(name)) : params.get(name) ?? "";
  }
  return searchState;
}

/** Return the address of a search state, without empty fields. */
export function formatLocation(searchState) {
  const address = new URLSearchParams();
  for (const name of ["q", ...LIST_FIELDS, ...SINGLE_FIELDS.slice(1), "picture"]) {
    if (name === "literal_words") for (const words of valuesOf(searchState, name)) address.append(name, words);
    else if (searchState[name]?.trim()) address.set(name, searchState[name].trim());
  }
  const query = address.toString();
  return query ? `${ROOT}/?${query}` : `${ROOT}/`;
}

/** Return true if there is anything to search for. */
export function hasQuery(searchState, upload) {
  const names = ["q", "like", "like_url", ...FILTER_FIELDS];
  return Boolean(upload || names.some((name) => searchState[name].trim()));
}

/**
 * Send a request, and return the parsed JSON answer.
 *
 * @param {string} path Path of the request.
 * @param {RequestInit} [options] Options of fetch.
 * @throws {ProblemError} The server does not answer, or answers with an error.
 */
export async function fetchJson(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError("The server does not answer. Check that mmsearch serve is running.", 0);
  }
  const answer = await response.json().catch(() => {
    // A request may be aborted while its answer arrives.
    options?.signal?.throwIfAborted();
    return null;
  });
  if (response.status === 401) {
    throw new ProblemError("The server requires a token. Reload this page to enter it.", 401);
  }
  if (!response.ok || answer === null) {
    const message = answer?.detail ?? `The server answered with status ${response.status}.`;
    throw new ProblemError(message, response.status);
  }
  return answer;
}

/**
 * Search, and return one page of hits.
 *
 * @param {string} index Name of the index.
 * @param {Record<string, string>} searchState See parseLocation.
 * @param {{file: Blob} | null} upload A picture to search by.
 * @param {{cursor?: string, limit: number, signal?: AbortSignal}} page Position and size of the page.
 */
export function search(index, searchState, upload, { cursor, limit, signal }) {
  const searchUrl = `${ROOT}/v1/indexes/${encodeURIComponent(index)}/search`;
  if (upload) {
    const form = uploadForm(searchState, "picture", upload.file, limit);
    form.set("query", searchState.q);
    if (cursor) form.set("cursor", cursor);
    return fetchJson(`${searchUrl}/picture`, { method: "POST", body: form, signal });
  }
  const params = searchParams(searchState);
  params.set("limit", String(limit));
  if (cursor) params.set("cursor", cursor);
  return fetchJson(`${searchUrl}?${params}`, { signal });
}

/** Return the parameters of a search by text and by pictures of the index, without empty ones. */
export function searchParams(searchState) {
  const params = new URLSearchParams({ q: searchState.q });
  for (const name of LIST_FIELDS) {
    for (const value of valuesOf(searchState, name)) params.append(name, value);
  }
  for (const name of ["like_url", ...FILTER_FIELDS, "fold", "literal", "sort"]) {
    if (name in SEPARATORS) for (const value of valuesOf(searchState, name)) params.append(name, value);
    else if (searchState[name].trim()) params.set(name, searchState[name].trim());
  }
  return params;
}

/**
 * Search by a spoken description, and return one page of hits with what was heard.
 *
 * @param {string} index Name of the index.
 * @param {Record<string, string>} searchState See parseLocation; its text and its pictures do not count.
 * @param {Blob} recording The recording.
 * @param {{limit: number}} page Size of the page.
 */
export function searchBySpeech(index, searchState, recording, { limit }) {
  const form = uploadForm(searchState, "speech", recording, limit);
  return fetchJson(`${ROOT}/v1/indexes/${encodeURIComponent(index)}/search/speech`, { method: "POST", body: form });
}

/** Return a form with a file and the fields that narrow a search. */
function uploadForm(searchState, name, file, limit) {
  const form = new FormData();
  form.set(name, file, name);
  for (const name of LIST_FIELDS) for (const value of valuesOf(searchState, name)) form.append(name, value);
  form.set("filters", JSON.stringify(filters(searchState)));
  for (const name of ["fold", "literal", "sort"]) if (searchState[name]) form.set(name, searchState[name]);
  form.set("limit", String(limit));
  return form;
}

function filters(searchState) {
  const params = FILTER_FIELDS.filter((name) => searchState[name].trim());
  return Object.fromEntries(params.map((name) => [name, filterValue(searchState, name)]));
}

function filterValue(searchState, name) {
  const type = FILTER_TYPES.get(name);
  if (type === "list") return valuesOf(searchState, name);
  const text = searchState[name].trim();
  if (type === "flag") return text === "true";
  return type === "number" ? Number(text) : text;
}
