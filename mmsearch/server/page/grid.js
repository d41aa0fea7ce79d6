// Grid of hits, in rows of equal height.

const MIN_ASPECT_RATIO = 0.55;
const MAX_ASPECT_RATIO = 3;
const ASPECT_RATIO_OF_WAVEFORMS = 2;
const DEFAULT_ASPECT_RATIO = 1.5;

const VOTES = [
  { field: "like", label: "More like" },
  { field: "unlike", label: "Less like" },
];

/** Return the title of a hit: its first text, or the name of its file. */
export function hitTitle(hit) {
  const text = hit.texts[0]?.text ?? hit.path.split("/").at(-1);
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

/** Return where a moment or a page is in its file, such as "1:02:03" or "p. 7"; empty for all of it. */
export function hitPosition(hit) {
  if (hit.page !== null) return `p. ${hit.page}`;
  return hit.start_ms === null ? "" : formatTime(hit.start_ms);
}

/** Return a time in milliseconds as "0:42", or as "1:02:03" from an hour on. */
export function formatTime(time) {
  const seconds = Math.floor(time / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

/** Return the caption of a hit: the name of its file, and its position. */
export function hitCaption(hit) {
  return [hit.path.split("/").at(-1), hitPosition(hit)].filter(Boolean).join(" · ");
}

/** Return the label of a hit, such as "likely 83%"; empty if it is neither likely nor possible, or not calibrated. */
export function matchLabel(hit, calibrated) {
  if (!calibrated || !["likely", "possible"].includes(hit.band)) return "";
  return `${hit.band} ${Math.floor(hit.confidence * 100 + 1e-9)}%`;
}

/** A list of hits with arrow-key navigation. */
export class Grid {
  /**
   * @param {HTMLUListElement} list Element for the hits.
   * @param {(id: number) => void} open Called with the id of the chosen hit.
   * @param {(field: string, id: number) => void} vote Called with "like" or "unlike" and the id of a hit, if the user
   *   wants more or fewer hits like it, or takes that back.
   */
  constructor(list, open, vote) {
    this.list = list;
    this.open = open;
    this.vote = vote;
    this.hits = [];
    list.addEventListener("click", (event) => this.#click(event));
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("focusin", (event) => this.#makeTabbable(event.target));
  }

  /**
   * Replace all hits.
   *
   * @param {object[]} hits The hits.
   * @param {{calibrated: boolean, ranked: boolean, votes: Record<string, string[]>}} shown If hits get labels; if they
   *   are in the order of their ranks, so that a divider can precede weaker matches; and the ids of the votes by field.
   */
  show(hits, shown = { calibrated: false, ranked: false, votes: {} }) {
    this.shown = shown;
    this.hits = [];
    this.list.replaceChildren();
    this.list.classList.add("fitted");
    this.append(hits);
  }

  /** Append hits. */
  append(hits) {
    this.list.append(...hits.map((hit) => createItem(hit, matchLabel(hit, this.shown.calibrated), this.shown.votes)));
    this.hits.push(...hits);
    this.#divide();
    if (!this.list.querySelector('a[tabindex="0"]')) this.#makeTabbable(this.#links()[0]);
  }

  /** Focus a hit; return true if it is shown. */
  focus(id) {
    const link = this.list.querySelector(`li[data-id="${CSS.escape(String(id))}"] > a`);
    link?.focus();
    return Boolean(link);
  }

  /** Focus a button of a hit; return true if the hit is shown. */
  focusVote(field, id) {
    const button = this.list.querySelector(`li[data-id="${CSS.escape(String(id))}"] button[name="${field}"]`);
    // It is hidden while nothing of the hit has the focus.
    this.focus(id);
    button?.focus();
    return Boolean(button);
  }

  /** Focus the hit at a position, from 0. */
  focusAt(place) {
    this.#links()[place]?.focus();
  }

  /** Put the divider below the last hit that has a label, if others follow. */
  #divide() {
    this.list.querySelector(".divider")?.remove();
    const items = [...this.list.children];
    const weaker = items.findLastIndex((item) => item.querySelector(".label")) + 1;
    if (!this.shown.ranked || weaker === 0 || weaker === items.length) return;
    const divider = document.createElement("li");
    const heading = document.createElement("h2");
    divider.className = "divider";
    heading.textContent = document.body.dataset.weaker;
    divider.append(heading);
    items[weaker].before(divider);
  }

  #links() {
    return [...this.list.querySelectorAll("a")];
  }

  /** Let the Tab key reach one hit with its buttons, and leave the others to the arrow keys. */
  #makeTabbable(target) {
    const entry = target?.closest?.("li[data-id]");
    if (!entry) return;
    for (const other of this.list.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    for (const each of entry.querySelectorAll("a, button")) each.tabIndex = 0;
  }

  #click(event) {
    const chosen = event.target.closest("li[data-id]");
    // With these keys a browser opens the link in a new tab or window.
    if (!chosen || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const button = event.target.closest("button");
    if (button) this.vote(button.name, Number(chosen.dataset.id));
    else this.open(Number(chosen.dataset.id));
  }

  #key(event) {
    const links = this.#links();
    const at = links.indexOf(document.activeElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = { "+": "like", "-": "unlike" }[event.key];
    if (field) {
      links[at].parentElement.querySelector(`button[name="${field}"]`)?.click();
      return;
    }
    const moves = {
      ArrowRight: () => links[at + 1],
      ArrowLeft: () => links[at - 1],
      ArrowDown: () => beside(links, links[at], 1),
      ArrowUp: () => beside(links, links[at], -1),
      Home: () => links[0],
      End: () => links.at(-1),
    }[event.key];
    if (!moves) return;
    event.preventDefault();
    moves()?.focus();
  }
}

function createItem(hit, text, votes) {
  const entry = document.createElement("li");
  entry.dataset.id = hit.id;
  // A sound has no size, and that of a picture is not known after some imports.
  const defaultRatio = hit.kind === "sound" ? ASPECT_RATIO_OF_WAVEFORMS : DEFAULT_ASPECT_RATIO;
  const ownRatio = hit.width ? hit.width / hit.height : defaultRatio;
  const ratio = Math.min(MAX_ASPECT_RATIO, Math.max(MIN_ASPECT_RATIO, ownRatio));
  entry.style.setProperty("--ratio", ratio.toFixed(4));
  const link = document.createElement("a");
  link.href = `${hit.links.thumbnail}?size=large`;
  link.tabIndex = -1;
  const picture = hit.width ? new Image(hit.width, hit.height) : new Image();
  picture.loading = "lazy";
  picture.decoding = "async";
  // Without a text, the only title is the file name, which the caption already shows.
  picture.alt = hit.texts.length ? hitTitle(hit) : "";
  picture.src = `${hit.links.thumbnail}?size=medium`;
  const label = document.createElement("span");
  label.className = `label ${hit.band}`;
  label.textContent = text;
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.textContent = hitCaption(hit);
  const place = document.createElement("span");
  place.className = `place ${hit.kind}`;
  place.ariaHidden = true;
  place.textContent = hitPosition(hit);
  link.append(picture, ...(text ? [label] : []), ...(place.textContent ? [place] : []), ...folded(hit), caption);
  // An item without pixels has no look that others could be like.
  entry.append(link, ...(hasLook(hit) ? [createVotes(hit, votes)] : []));
  return entry;
}

/** Return true if a hit has pixels, so that others can be compared with it. */
export function hasLook(hit) {
  return hit.kind !== "sound" && (hit.kind === "image" || hit.width > 0);
}

/** Return a badge with the number of duplicates behind a hit, if there are any. */
function folded(hit) {
  if (!hit.folded) return [];
  const badge = document.createElement("span");
  const unit = document.createElement("span");
  badge.className = "folded";
  unit.className = "unseen";
  unit.textContent = " similar";
  badge.append(`+${hit.folded}`, unit);
  return [badge];
}

function createVotes(hit, votes) {
  const group = document.createElement("span");
  group.className = "votes";
  for (const { field, label } of VOTES) {
    const button = document.createElement("button");
    button.type = "button";
    button.name = field;
    button.tabIndex = -1;
    button.title = `${label} this`;
    button.ariaLabel = `${label} ${hitCaption(hit)}`;
    button.ariaPressed = Boolean(votes[field]?.includes(String(hit.id)));
    group.append(button);
  }
  return group;
}

function beside(links, from, direction) {
  const box = from.getBoundingClientRect();
  const centerX = box.left + box.width / 2;
  const rows = links.map((link) => ({ link, box: link.getBoundingClientRect() }));
  const rowsBeyond = rows.filter((each) => direction * (each.box.top - box.top) > 1);
  if (!rowsBeyond.length) return undefined;
  const next = Math.min(...rowsBeyond.map((each) => Math.abs(each.box.top - box.top)));
  const row = rowsBeyond.filter((each) => Math.abs(Math.abs(each.box.top - box.top) - next) < 1);
  const distance = (each) => Math.abs(each.box.left + each.box.width / 2 - centerX);
  return row.reduce((best, each) => (distance(each) < distance(best) ? each : best)).link;
}
