// Counts of the pictures found by year, place and other facets, each of which narrows the search.

import { ProblemError, ROOT, fetchJson, searchParams } from "./search_form.js";

const MAX_VALUES = 12;

/** The panel of the facets; it asks the server only while it is open. */
export class Facets {
  /**
   * @param {HTMLDetailsElement} panel The panel.
   * @param {string} index Name of the index.
   * @param {(filter: Record<string, unknown>) => void} narrow Called with the filter of the chosen value.
   */
  constructor(panel, index, narrow) {
    this.panel = panel;
    this.groups = panel.querySelector("div");
    this.at = `${ROOT}/v1/indexes/${encodeURIComponent(index)}/facets`;
    this.narrow = narrow;
    this.controller = new AbortController();
    this.searchState = null;
    this.loaded = "";
    panel.addEventListener("toggle", () => this.#load());
  }

  /** Show the facets of a search; null for a search that has none. */
  show(searchState) {
    this.searchState = searchState;
    this.panel.hidden = searchState === null;
    this.#load();
  }

  /** Ask the server again, even for the same search. */
  forget() {
    this.loaded = "";
  }

  async #load() {
    if (this.searchState === null || !this.panel.open) return;
    const params = searchParams({ ...this.searchState, sort: "" }).toString();
    if (params === this.loaded) return;
    this.loaded = params;
    this.controller.abort();
    this.controller = new AbortController();
    try {
      const found = await fetchJson(`${this.at}?${params}`, { signal: this.controller.signal });
      this.groups.replaceChildren(...this.#createGroups(found.facets));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ProblemError)) throw error;
      this.loaded = "";
      this.groups.replaceChildren(error.message);
    }
  }

  #createGroups(facets) {
    const shown = facets.filter(({ values }) => values.length);
    if (!shown.length) return ["Nothing to narrow down by."];
    return shown.map(({ field, values }) => {
      const group = document.createElement("section");
      const title = document.createElement("h2");
      const list = document.createElement("ul");
      title.id = `facet-${field}`;
      title.textContent = this.panel.dataset[field] ?? field;
      list.setAttribute("aria-labelledby", title.id);
      list.append(...values.slice(0, MAX_VALUES).map((value) => this.#createValue(value)));
      group.append(title, list);
      return group;
    });
  }

  #createValue({ label, count, filter }) {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    const number = document.createElement("small");
    button.type = "button";
    number.textContent = ` ${count.toLocaleString("en")}`;
    button.append(label, number);
    button.disabled = filter === null;
    button.addEventListener("click", () => this.narrow(filter));
    entry.append(button);
    return entry;
  }
}
