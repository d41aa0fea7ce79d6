// Search state: conversion between form fields, the page's address and requests.

/** Type of the value of each filter ("text", "number", "flag" or "list"), by name; the server renders their fields. */
const FILTER_TYPES = new Map(
  Array.from(document.querySelectorAll("[data-filter]"), (field) => [field.name, field.dataset.filter]));

/** Names of the filters. */
export const FILTER_FIELDS = [...FILTER_TYPES.keys()];

/** Path below which a proxy serves the page; "" for none. */
export const ROOT = document.body.dataset.root;

const SINGLE_FIELDS = ["q", "like_url", ...FILTER_FIELDS, "sort", "index"];

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

/** Split a text at commas, and drop empty parts. */
export function split(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean);
}

/**
 * Parse the query string of an address into the search state.
 *
 * @param {string} search Query string, with or without "?".
 * @returns {Record<string, string>} A text for each field; "picture" is the id of the open picture.
 */
export function parseLocation(search) {
  const params = new URLSearchParams(search);
  const searchState = { not: params.getAll("not").join(", "), like: params.getAll("like").join(",") };
  for (const name of [...SINGLE_FIELDS, "picture"]) searchState[name] = params.get(name) ?? "";
  return searchState;
}

/** Return the address of a search state, without empty fields. */
export function formatLocation(searchState) {
  const address = new URLSearchParams();
  for (const name of ["q", "not", "like", "like_url", ...FILTER_FIELDS, "sort", "index", "picture"]) {
    if (searchState[name]?.trim()) address.set(name, searchState[name].trim());
  }
  const query = address.toString();
  return query ? `${ROOT}/?${query}` : `${ROOT}/`;
}

/** Return true if there is anything to search for. */
export function hasQuery(searchState, upload) {
  return Boolean(upload || searchState.q.trim() || searchState.like || searchState.like_url);
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
  const answer = await response.json().catch(() => null);
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
  const params = new URLSearchParams({ q: searchState.q, limit: String(limit) });
  for (const part of split(searchState.not)) params.append("not", part);
  for (const part of split(searchState.like)) params.append("like", part);
  if (searchState.like_url) params.set("like_url", searchState.like_url);
  for (const name of FILTER_FIELDS) if (searchState[name].trim()) params.set(name, searchState[name].trim());
  if (searchState.sort) params.set("sort", searchState.sort);
  if (cursor) params.set("cursor", cursor);
  return fetchJson(`${searchUrl}?${params}`, { signal });
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
  for (const part of split(searchState.not)) form.append("not", part);
  form.set("filters", JSON.stringify(filters(searchState)));
  if (searchState.sort) form.set("sort", searchState.sort);
  form.set("limit", String(limit));
  return form;
}

function filters(searchState) {
  const params = FILTER_FIELDS.filter((name) => searchState[name].trim());
  return Object.fromEntries(params.map((name) => [name, filterValue(name, searchState[name].trim())]));
}

function filterValue(name, text) {
  const type = FILTER_TYPES.get(name);
  if (type === "list") return [text];
  if (type === "flag") return text === "true";
  return type === "number" ? Number(text) : text;
}
