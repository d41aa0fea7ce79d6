// The stage of the details: the picture of a hit, or a player that starts at its moment.

const KIND_NAMES = { video: "film", sound: "recording" };

const element = (id) => document.getElementById(id);

/** The picture, film or sound of one hit. */
export class Player {
  constructor() {
    this.picture = element("details-picture");
    this.boxes = element("details-boxes");
    this.media = null;
    for (const media of [element("details-video"), element("details-sound")]) {
      media.addEventListener("error", () => this.#refuse(media));
      media.addEventListener("loadedmetadata", () => {
        // A film whose pictures the browser cannot decode plays as a sound.
        if (media.videoWidth === 0 && media === element("details-video")) this.#refuse(media);
      });
    }
  }

  /** Show a hit at its moment; `alt` describes its picture. */
  show(hit, alt) {
    this.stop();
    this.hit = hit;
    this.picture.alt = alt;
    this.media = { video: element("details-video"), sound: element("details-sound") }[hit.kind] ?? null;
    element("player-problem").hidden = true;
    this.#showPicture(hit.id);
    this.picture.hidden = this.media === element("details-video");
    if (this.media !== null) this.#showBoxes([]);
    if (this.media === null) return;
    this.media.hidden = false;
    if (this.media.localName === "video") this.media.poster = this.picture.src;
    this.media.ariaLabel = alt;
    const start = hit.start_s;
    // A media fragment (https://www.w3.org/TR/media-frags/) makes the browser start there.
    this.media.src = `${hit.links.original}${start ? `#t=${start}` : ""}`;
  }

  /** Show another moment or page of the same file, `{id, start_s}`; a player jumps to it. */
  jump({ id, start_s: start }) {
    if (id) this.#showPicture(id);
    if (this.media === null || start === null) return;
    if (this.media.readyState > 0) {
      this.media.currentTime = start;
    } else {
      this.media.src = `${this.hit.links.original}#t=${start}`;
    }
  }

  /** Stop playing, and release what was loaded. */
  stop() {
    for (const media of [element("details-video"), element("details-sound")]) {
      media.hidden = true;
      media.removeAttribute("poster");
      if (!media.hasAttribute("src")) continue;
      media.pause();
      media.removeAttribute("src");
      media.load();
    }
    this.media = null;
    this.picture.hidden = false;
  }

  #showPicture(id) {
    const { hit, picture } = this;
    this.#showBoxes(id === hit.id ? (hit.matched?.boxes ?? []) : []);
    picture.removeAttribute("src");
    picture.width = hit.width;
    picture.height = hit.height;
    picture.src = `${hit.links.thumbnail.replace(`pictures/${hit.id}/`, `pictures/${id}/`)}?size=large`;
  }

  /** Mark lines of text in the picture; each box has its first and last character, and its sides as shares. */
  #showBoxes(boxes) {
    const { width, height } = this.hit;
    this.boxes.toggleAttribute("hidden", boxes.length === 0 || !width);
    this.boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const margin = 0.004 * Math.max(width, height);
    this.boxes.replaceChildren(
      ...boxes.map(([, , left, top, right, bottom]) => {
        const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        box.setAttribute("x", left * width - margin);
        box.setAttribute("y", top * height - margin);
        box.setAttribute("width", (right - left) * width + 2 * margin);
        box.setAttribute("height", (bottom - top) * height + 2 * margin);
        return box;
      }),
    );
  }

  /** Show the picture of the moment in place of a film or sound that the browser cannot play. */
  #refuse(media) {
    if (media !== this.media || !media.hasAttribute("src")) return;
    this.stop();
    const name = KIND_NAMES[this.hit.kind];
    element("player-problem").textContent = `This browser cannot play this ${name}. Download the file to play it with another program.`;
    element("player-problem").hidden = false;
  }
}
