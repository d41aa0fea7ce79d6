// What is searchState: as fields, as the page's address, and as a request.

const SINGLE_FIELDS = ["q", "like_url", "after", "before", "path", "min_width", "orientation", "camera", "index"];
const FILTER_FIELDS = ["after", "before", "path", "min_width", "orientation", "camera"];
const LIST_FIELDS = new Set(["path", "camera"]);

/** An error whose message is a sentence for people. */
export class ProblemError extends Error {
  /**
   * @param {string} message What is wrong, and what to do.
   * @param {number} status Of the response; 0: there was none.
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The parts between commas, without those that are empty. */
export function split(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean);
}

/**
 * What an address asks for.
 *
 * @param {string} search Its query, with or without "?".
 * @returns {Record<string, string>} A text for each field; "picture" is the one that is open.
 */
export function parseLocation(search) {
  const params = new URLSearchParams(search);
  const searchState = { not: params.getAll("not").join(", "), like: params.getAll("like").join(",") };
  for (const name of [...SINGLE, "picture"]) searchState[name] = params.get(name) ?? "";
  return searchState;
}

/** The address of what is searchState; fields that are empty are not in it. */
export function formatLocation(searchState) {
  const address = new URLSearchParams();
  for (const name of ["q", "not", "like", "like_url", ...FILTERS, "index", "picture"]) {
    if (searchState[name]?.trim()) address.set(name, searchState[name].trim());
  }
  const query = address.toString();
  return query ? `/?${query}` : "/";
}

/** Whether there is anything to search for. */
export function hasQuery(searchState, upload) {
  return Boolean(upload || searchState.q.trim() || searchState.like || searchState.like_url);
}

/**
 * Ask the server, and give its answer as an object.
 *
 * @param {string} path Of the request.
 * @param {RequestInit} [options] Of fetch.
 * @throws {ProblemError} It does not answer, or says that it cannot.
 */
export async function fetchJson(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError("The server does not answer. See whether mmsearch serve is running.", 0);
  }
  const answer = await response.json().catch(() => null);
  if (response.status === 401) {
    throw new ProblemError("The server asks for its token. Load this page again to give it.", 401);
  }
  if (!response.ok || answer === null) {
    const message = answer?.detail ?? `The server answered with status ${response.status}.`;
    throw new ProblemError(message, response.status);
  }
  return answer;
}

/**
 * A page of hits.
 *
 * @param {string} index Its name.
 * @param {Record<string, string>} searchState See parseLocation.
 * @param {{file: Blob} | null} upload A picture that hits shall look like.
 * @param {{cursor?: string, limit: number, signal?: AbortSignal}} page Which page.
 */
export function search(index, searchState, upload, { cursor, limit, signal }) {
  const searchUrl = `/v1/indexes/${encodeURIComponent(index)}/search`;
  if (upload) {
    const form = new FormData();
    form.set("picture", upload.file, "picture");
    form.set("query", searchState.q);
    for (const part of split(searchState.not)) form.append("not", part);
    form.set("filters", JSON.stringify(filters(searchState)));
    form.set("limit", String(limit));
    if (cursor) form.set("cursor", cursor);
    return fetchJson(`${searchUrl}/picture`, { method: "POST", body: form, signal });
  }
  const params = new URLSearchParams({ q: searchState.q, limit: String(limit) });
  for (const part of split(searchState.not)) params.append("not", part);
  for (const part of split(searchState.like)) params.append("like", part);
  if (searchState.like_url) params.set("like_url", searchState.like_url);
  for (const name of FILTER_FIELDS) if (searchState[name].trim()) params.set(name, searchState[name].trim());
  if (cursor) params.set("cursor", cursor);
  return fetchJson(`${searchUrl}?${params}`, { signal });
}

function filters(searchState) {
  const params = FILTER_FIELDS.filter((name) => searchState[name].trim());
  return Object.fromEntries(params.map((name) => [name, filterValue(name, searchState[name].trim())]));
}

function filterValue(name, text) {
  if (LIST_FIELDS.has(name)) return [text];
  return name === "min_width" ? Number(text) : text;
}
