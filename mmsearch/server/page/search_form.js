// What is asked: as fields, as the page's address, and as a request.

const SINGLE = ["q", "like_url", "after", "before", "path", "min_width", "orientation", "camera", "index"];
const FILTERS = ["after", "before", "path", "min_width", "orientation", "camera"];
const LISTED = new Set(["path", "camera"]);

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
export function fromAddress(search) {
  const given = new URLSearchParams(search);
  const asked = { not: given.getAll("not").join(", "), like: given.getAll("like").join(",") };
  for (const name of [...SINGLE, "picture"]) asked[name] = given.get(name) ?? "";
  return asked;
}

/** The address of what is asked; fields that are empty are not in it. */
export function toAddress(asked) {
  const address = new URLSearchParams();
  for (const name of ["q", "not", "like", "like_url", ...FILTERS, "index", "picture"]) {
    if (asked[name]?.trim()) address.set(name, asked[name].trim());
  }
  const query = address.toString();
  return query ? `/?${query}` : "/";
}

/** Whether there is anything to search for. */
export function isAsking(asked, upload) {
  return Boolean(upload || asked.q.trim() || asked.like || asked.like_url);
}

/**
 * Ask the server, and give its answer as an object.
 *
 * @param {string} path Of the request.
 * @param {RequestInit} [options] Of fetch.
 * @throws {ProblemError} It does not answer, or says that it cannot.
 */
export async function ask(path, options) {
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
    const said = answer?.detail ?? `The server answered with status ${response.status}.`;
    throw new ProblemError(said, response.status);
  }
  return answer;
}

/**
 * A page of hits.
 *
 * @param {string} index Its name.
 * @param {Record<string, string>} asked See fromAddress.
 * @param {{file: Blob} | null} upload A picture that hits shall look like.
 * @param {{cursor?: string, limit: number, signal?: AbortSignal}} page Which page.
 */
export function search(index, asked, upload, { cursor, limit, signal }) {
  const at = `/v1/indexes/${encodeURIComponent(index)}/search`;
  if (upload) {
    const form = new FormData();
    form.set("picture", upload.file, "picture");
    form.set("query", asked.q);
    for (const part of split(asked.not)) form.append("not", part);
    form.set("filters", JSON.stringify(filters(asked)));
    form.set("limit", String(limit));
    if (cursor) form.set("cursor", cursor);
    return ask(`${at}/picture`, { method: "POST", body: form, signal });
  }
  const given = new URLSearchParams({ q: asked.q, limit: String(limit) });
  for (const part of split(asked.not)) given.append("not", part);
  for (const part of split(asked.like)) given.append("like", part);
  if (asked.like_url) given.set("like_url", asked.like_url);
  for (const name of FILTERS) if (asked[name].trim()) given.set(name, asked[name].trim());
  if (cursor) given.set("cursor", cursor);
  return ask(`${at}?${given}`, { signal });
}

function filters(asked) {
  const given = FILTERS.filter((name) => asked[name].trim());
  return Object.fromEntries(given.map((name) => [name, filterValue(name, asked[name].trim())]));
}

function filterValue(name, text) {
  if (LISTED.has(name)) return [text];
  return name === "min_width" ? Number(text) : text;
}
