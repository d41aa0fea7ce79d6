// Suggestions below the search field: a combobox with a list, as in the ARIA Authoring Practices Guide.

import { ROOT, ProblemError, fetchJson } from "./search_form.js";

const TYPING_MS = 100;
const MAX_SUGGESTIONS = 8;

/**
 * Attach the event handlers of the search field and its list.
 *
 * @param {string} index Name of the index.
 * @param {HTMLInputElement} input The search field.
 * @param {HTMLUListElement} list The list, which is empty.
 * @param {(text: string) => void} choose Called with the text of the chosen suggestion.
 */
export function bindSuggestions(index, input, list, choose) {
  const at = `${ROOT}/v1/indexes/${encodeURIComponent(index)}/suggest`;
  let controller = new AbortController();
  let timer = 0;
  let active = -1;

  function close() {
    clearTimeout(timer);
    controller.abort();
    activate(-1);
    list.hidden = true;
    input.ariaExpanded = "false";
  }

  function activate(position) {
    active = position;
    for (const [at, option] of [...list.children].entries()) option.ariaSelected = String(at === position);
    const option = list.children[position];
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  function take(option) {
    close();
    choose(option.dataset.text);
  }

  async function load() {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    const params = new URLSearchParams({ q: input.value, limit: String(MAX_SUGGESTIONS) });
    try {
      const { suggestions } = await fetchJson(`${at}?${params}`, { signal });
      show(suggestions.filter(({ text }) => text !== input.value.trim()));
    } catch (error) {
      // Suggestions are a help; the search itself reports that the server does not answer.
      if (error.name !== "AbortError" && !(error instanceof ProblemError)) throw error;
      close();
    }
  }

  function show(suggestions) {
    if (document.activeElement !== input) return;
    list.replaceChildren(...suggestions.map(createOption));
    list.hidden = suggestions.length === 0;
    input.ariaExpanded = String(suggestions.length > 0);
    activate(-1);
  }

  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(load, TYPING_MS);
  }

  input.addEventListener("input", schedule);
  input.addEventListener("click", () => input.value.trim() || schedule());
  input.addEventListener("blur", close);
  input.form.addEventListener("submit", close);
  // A press would move the focus out of the field, which closes the list before the click.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const option = event.target.closest("li");
    if (option) take(option);
  });
  input.addEventListener("keydown", (event) => {
    if (list.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = list.children.length - 1;
    if (event.key === "ArrowDown") activate(active === last ? -1 : active + 1);
    else if (event.key === "ArrowUp") activate(active === -1 ? last : active - 1);
    else if (event.key === "Enter" && active >= 0) take(list.children[active]);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}

function createOption({ text, kind, count }, position) {
  const option = document.createElement("li");
  option.id = `suggestion-${position}`;
  option.role = "option";
  option.dataset.text = text;
  const note = document.createElement("small");
  note.textContent = [KINDS[kind], count ? `${count.toLocaleString("en")} pictures` : ""].filter(Boolean).join(", ");
  option.append(text, note);
  return option;
}

const KINDS = { person: "person", place: "place", camera: "camera" };
