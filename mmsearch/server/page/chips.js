// Chips: what a search consists of besides its text, each with a button that removes it.

/**
 * Show chips, and hide the section around the list if it is empty.
 *
 * @param {HTMLElement} section The section, which holds one list.
 * @param {{source?: string | null, name: string, drop: () => void}[]} chips A source is the thumbnail of a picture. It
 *   is null for a picture on another site, from which nothing is loaded.
 */
export function renderChips(section, chips) {
  section.hidden = chips.length === 0;
  section.querySelector("ul").replaceChildren(...chips.map(createChip));
}

function createChip({ source, name, drop }) {
  const entry = document.createElement("li");
  const label = document.createElement("span");
  label.textContent = name;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Remove";
  button.ariaLabel = `Remove ${name}`;
  button.addEventListener("click", drop);
  if (source) {
    const picture = new Image();
    picture.alt = "";
    picture.addEventListener("error", () => picture.remove());
    picture.src = source;
    entry.append(picture);
  }
  entry.append(label, button);
  return entry;
}
