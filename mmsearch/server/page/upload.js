// Pictures, or URLs of pictures, that the user chooses, drops or pastes.

import { ROOT } from "./search_form.js";

/** Return the first URL of another site in a URI list (RFC 2483), or null. */
function firstImageUrl(list) {
  const lines = list.split(/\r?\n/).map((line) => line.trim());
  const found = lines.find((line) => /^https?:\/\/\S+$/i.test(line)) ?? null;
  // Ignore pictures that were dragged from this page.
  return found?.startsWith(`${location.origin}${ROOT}/`) ? null : found;
}

/** Return a display name for the picture at a URL. */
export function fileNameFromUrl(url) {
  const name = url.replace(/[?#].*/, "").split("/").pop() || "a picture";
  try {
    return `${decodeURIComponent(name)} from the web`;
  } catch {
    return `${name} from the web`;
  }
}

/**
 * Call a function for each picture that the user gives to the page.
 *
 * @param {(file: File) => void} given Called for a picture file.
 * @param {((url: string) => void) | null} named Called for the URL of a picture; null to ignore URLs.
 */
export function bindUpload(given, named) {
  const input = document.getElementById("file");
  const drop = document.getElementById("drop");
  const takeFile = (files) => {
    const file = [...files].find((each) => each.type === "" || each.type.startsWith("image/"));
    if (file) given(file);
    return Boolean(file);
  };
  const takeUrl = (list) => {
    const url = named && firstImageUrl(list);
    if (url) named(url);
    return Boolean(url);
  };
  const isInField = (event) => event.target.matches?.("input, select, textarea");
  const acceptsDrop = (event) => {
    const types = event.dataTransfer?.types ?? [];
    return types.includes("Files") || (named && types.includes("text/uri-list") && !isInField(event));
  };
  document.getElementById("chooser").hidden = false;
  input.addEventListener("change", () => {
    takeFile(input.files);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const data = event.clipboardData;
    if (takeFile(data?.files ?? [])) event.preventDefault();
    else if (!isInField(event) && takeUrl(data?.getData("text/plain") ?? "")) event.preventDefault();
  });
  document.addEventListener("dragover", (event) => {
    if (!acceptsDrop(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    drop.hidden = true;
    if (!acceptsDrop(event)) return;
    event.preventDefault();
    const data = event.dataTransfer;
    if (!takeFile(data.files)) takeUrl(data.getData("text/uri-list"));
  });
}
