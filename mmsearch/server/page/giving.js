// A picture that is chosen, dropped or pasted.

/**
 * Call back for each picture that is given to the page.
 *
 * @param {(file: File) => void} given
 */
export function takePictures(given) {
  const input = document.getElementById("file");
  const drop = document.getElementById("drop");
  const take = (files) => {
    const file = [...files].find((each) => each.type === "" || each.type.startsWith("image/"));
    if (file) given(file);
    return Boolean(file);
  };
  document.getElementById("chooser").hidden = false;
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    if (take(event.clipboardData?.files ?? [])) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    drop.hidden = true;
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}

/**
 * The picture that hits shall look like, with a button that takes it away.
 *
 * @param {{source: string, name: string, drop: () => void}[]} pictures
 */
export function showGiven(pictures) {
  const list = document.getElementById("chips");
  list.hidden = pictures.length === 0;
  list.replaceChildren(
    ...pictures.map(({ source, name, drop }) => {
      const entry = document.createElement("li");
      const picture = new Image();
      picture.alt = "";
      picture.addEventListener("error", () => picture.remove());
      picture.src = source;
      const label = document.createElement("span");
      label.textContent = name;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Remove";
      button.setAttribute("aria-label", `Remove ${name}`);
      button.addEventListener("click", drop);
      entry.append(picture, label, button);
      return entry;
    }),
  );
}
