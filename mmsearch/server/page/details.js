// Dialog with a large picture, its metadata and why it was found.

import { formatTime, hasLook, hitCaption, hitPosition, hitTitle, matchLabel } from "./grid.js";
import { Player } from "./player.js";

const BANDS = {
  likely: "Likely what you asked for",
  possible: "Possibly what you asked for",
  unlikely: "One of the closest results, but a weak match",
};

const element = (id) => document.getElementById(id);

/** The dialog of one picture. */
export class Details {
  /**
   * @param {object} callbacks Functions that the dialog calls.
   * @param {() => void} callbacks.onClose Called after the user closes the dialog.
   * @param {(step: number) => void} callbacks.onMove Called to show the next (1) or previous (-1) picture.
   * @param {(hit: object) => void} callbacks.alike Called to search for similar pictures.
   * @param {(id: number) => void} callbacks.onOpen Called to show another picture.
   */
  constructor({ onClose, onMove, alike, onOpen }) {
    this.onOpen = onOpen;
    this.dialog = element("details");
    this.hit = null;
    this.player = new Player();
    element("close").addEventListener("click", () => this.dialog.close());
    element("previous").addEventListener("click", () => onMove(-1));
    element("next").addEventListener("click", () => onMove(1));
    element("alike").addEventListener("click", () => alike(this.hit));
    this.dialog.addEventListener("close", () => {
      this.player.stop();
      if (this.hit !== null) onClose();
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("keydown", (event) => {
      // A player has its own use for the arrow keys.
      if (event.target.matches("video, audio")) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) onMove(step);
    });
  }

  /** Show a picture; `calibrated` is true if its confidence is calibrated. */
  show(hit, { calibrated, first, last }) {
    this.hit = hit;
    this.player.show(hit, hitTitle(hit));
    this.#showMoments(hit);
    this.#showDuplicates(hit);
    element("details-title").textContent = hitCaption(hit);
    showOriginal(hit);
    element("alike").hidden = !hasLook(hit);
    element("previous").disabled = first;
    element("next").disabled = last;
    renderPairs(element("metadata"), metadata(hit));
    this.#explain(hit, calibrated);
    this.#showTexts(hit.texts);
    if (!this.dialog.open) this.dialog.showModal();
    if (this.shownMoment) element("moments-list").scrollLeft = this.shownMoment.offsetLeft - element("moments-list").offsetLeft - 40;
    if (document.activeElement?.disabled) element("close").focus();
  }

  /** Close the dialog without calling onClose. */
  hide() {
    this.hit = null;
    if (this.dialog.open) this.dialog.close();
  }

  #explain(hit, calibrated) {
    element("why").hidden = hit.score === undefined;
    if (hit.score === undefined) return;
    element("band").textContent = calibrated
      ? BANDS[hit.band]
      : "One of the closest results; how sure it is is unknown, because the model is not calibrated";
    renderPairs(element("scores"), [
      ["Confidence", matchLabel(hit, calibrated).replace(/^\w+ (\d+)%$/, "$1 %")],
      ["Visual score", hit.visual === null ? null : hit.visual.toFixed(3)],
      ["Text score", hit.text ? `${Math.round(hit.text * 100)} %` : null],
      ["Score", `${hit.score.toFixed(3)}, rank ${hit.rank}`],
    ]);
    const matched = element("matched");
    matched.hidden = hit.matched === null;
    if (hit.matched) matched.replaceChildren(...this.#textOrigin(hit.matched), ...highlightSpans(hit.matched));
  }

  /** Show a thumbnail of the hit itself and of each of its other moments, in the order of the file. */
  #showMoments(hit) {
    const moments = hit.moments?.length ? [hit, ...hit.moments].sort((a, b) => a.part - b.part) : [];
    element("moments").hidden = moments.length === 0;
    element("moments-title").textContent = hit.page === null ? "Moments in this file" : "Pages of this file";
    const buttons = moments.map((moment) => {
      const button = document.createElement("button");
      button.type = "button";
      button.ariaPressed = moment === hit;
      const path = hit.links.thumbnail.replace(`pictures/${hit.id}/`, `pictures/${moment.id}/`);
      const picture = new Image();
      picture.alt = "";
      picture.src = `${path}?size=small`;
      button.append(picture, hitPosition(moment));
      button.addEventListener("click", () => {
        for (const other of buttons) other.ariaPressed = other === button;
        this.player.jump(moment);
        element("details-title").textContent = hitCaption({ ...hit, ...moment });
      });
      return button;
    });
    element("moments-list").replaceChildren(...buttons);
    this.shownMoment = buttons[moments.indexOf(hit)];
  }

  /** Show a thumbnail of each duplicate that is folded into a hit. */
  #showDuplicates(hit) {
    const duplicates = hit.duplicates ?? [];
    element("duplicates").hidden = duplicates.length === 0;
    const others = hit.folded - duplicates.length;
    element("duplicates-title").textContent = `${hit.folded} similar ${hit.folded === 1 ? "picture" : "pictures"}`
      + (others > 0 ? `, ${duplicates.length} of them here` : "");
    element("duplicates-list").replaceChildren(...duplicates.map(({ id, path, kind }) => {
      const button = document.createElement("button");
      button.type = "button";
      const name = path.split("/").at(-1);
      button.title = path;
      button.ariaLabel = `Show ${name}, ${kind === "burst" ? "of the same burst" : "nearly the same picture"}`;
      const picture = new Image();
      picture.alt = "";
      picture.src = `${hit.links.thumbnail.replace(`pictures/${hit.id}/`, `pictures/${id}/`)}?size=small`;
      button.append(picture, name.length > 16 ? `${name.slice(0, 15)}…` : name);
      button.addEventListener("click", () => this.onOpen(id));
      return button;
    }));
  }

  /** Return what precedes a text: where it comes from, or a button that plays from its time. */
  #textOrigin({ kind, source, start_ms: startMs, start_s: start }) {
    if (source === "captions") return ["Described by a model: "];
    if (source === "gps") return ["By its coordinates: "];
    if (kind === "ocr") return ["Written in the picture: "];
    if (startMs === null || startMs === undefined) return [];
    const button = document.createElement("button");
    button.type = "button";
    button.className = "time";
    button.textContent = formatTime(startMs);
    button.ariaLabel = `Play from ${formatTime(startMs)}`;
    button.addEventListener("click", () => this.player.jump({ start_s: start }));
    return [button, " "];
  }

  #showTexts(texts) {
    element("texts").hidden = texts.length === 0;
    element("texts-list").replaceChildren(
      ...texts.map((text) => {
        const entry = document.createElement("li");
        if (text.language) entry.lang = text.language;
        entry.append(...this.#textOrigin(text), text.text);
        return entry;
      }),
    );
  }
}

/** Offer to open a picture, and to save another file, which a browser shows only here. */
function showOriginal(hit) {
  const link = element("original");
  link.href = hit.links.original;
  link.textContent = hit.kind === "image" ? "Open the file" : "Download the file";
  link.toggleAttribute("download", hit.kind !== "image");
}

function metadata(hit) {
  const megapixels = (hit.width * hit.height) / 1e6;
  const position = hit.latitude === null ? null : `${hit.latitude.toFixed(4)}, ${hit.longitude.toFixed(4)}`;
  return [
    ["Path", hit.path],
    ["Position", hitPosition(hit)],
    ["Copies", hit.copies.join("\n")],
    ["Size", hit.width && `${hit.width} × ${hit.height} (${megapixels.toFixed(1)} MP)`],
    ["File", `${hit.format}, ${bytes(hit.size_bytes)}`],
    ["Taken", hit.taken_at && `${hit.taken_at.replace("T", " ")} (${hit.taken_from ?? "source unknown"})`],
    ["Changed", new Date(hit.modified_at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })],
    ["Camera", hit.camera],
    ["Lens", hit.lens],
    ["Rating", hit.rating],
    ["Label", hit.label],
    ["Damage", hit.damage],
    ["Place", hit.place],
    ["Coordinates", position],
  ];
}

function bytes(count) {
  return count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function renderPairs(list, pairs) {
  const shown = pairs.filter(([, value]) => value);
  list.replaceChildren(
    ...shown.map(([name, value]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const definition = document.createElement("dd");
      term.textContent = name;
      definition.textContent = value;
      row.append(term, definition);
      return row;
    }),
  );
}

function highlightSpans({ text, spans }) {
  // Spans count code points, while JavaScript strings count UTF-16 units.
  const characters = Array.from(text);
  const parts = [];
  let at = 0;
  for (const [from, to] of spans) {
    parts.push(characters.slice(at, from).join(""));
    const mark = document.createElement("mark");
    mark.textContent = characters.slice(from, to).join("");
    parts.push(mark);
    at = to;
  }
  return [...parts, characters.slice(at).join("")];
}
