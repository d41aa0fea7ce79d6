// The index panel: status of the index, and updating its sources.

import { ROOT, fetchJson } from "./search_form.js";

const element = (id) => document.getElementById(id);

const PHASES = { scan: "Scanning files", encode: "Encoding pictures", build: "Building the vector index" };

/**
 * Attach the event handlers of the index panel.
 *
 * @param {string} index Name of the index.
 * @param {boolean} indexing True if the server allows indexing.
 * @param {() => void} changed Called when the pictures may have changed.
 */
export function bindIndexPanel(index, indexing, changed) {
  const panel = element("upkeep");
  if (!panel) return;
  const at = `${ROOT}/v1/indexes/${encodeURIComponent(index)}`;
  const buttons = [...panel.querySelectorAll(".update")];
  let job = null;

  function show(answer) {
    const running = answer.state === "running";
    element("job").hidden = !running;
    // The disabled attribute would remove the focus from the button that was pressed.
    for (const button of buttons) button.ariaDisabled = String(running);
    const bar = element("job-bar");
    if (answer.total) {
      bar.max = answer.total;
      bar.value = answer.done;
    } else {
      bar.removeAttribute("value");
    }
    if (running) {
      say(PHASES[answer.phase] ?? "Running");
    } else {
      job = null;
      say(outcome(answer));
    }
  }

  async function refresh() {
    const status = await fetchJson(at);
    element("pictures").textContent = `${status.pictures.toLocaleString("en")} pictures`;
    const run = status.last_run;
    if (run) {
      const when = new Date(run.finished_at ?? run.started_at);
      element("last-run").textContent = `${run.outcome}, ${when.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}`;
    }
  }

  function followJob(answer) {
    job = answer.id;
    show(answer);
    const events = new EventSource(`${at}/jobs/${encodeURIComponent(job)}/events`);
    events.addEventListener("job", (event) => {
      const told = JSON.parse(event.data);
      show(told);
      if (told.state === "running") return;
      events.close();
      refresh().then(changed, (error) => say(error.message));
    });
    events.addEventListener("error", () => {
      if (job !== null) say("No progress from the server. Check that mmsearch serve is running.");
    });
  }

  const told = (error) => say(error.message);
  for (const button of buttons) {
    button.hidden = !indexing;
    button.addEventListener("click", () => {
      if (job !== null) return;
      const body = JSON.stringify({ source: button.dataset.source ?? null });
      const headers = { "Content-Type": "application/json" };
      fetchJson(`${at}/jobs`, { method: "POST", body, headers }).then(followJob, told);
    });
  }
  element("job-stop").addEventListener("click", () => {
    if (job !== null) fetchJson(`${at}/jobs/${encodeURIComponent(job)}`, { method: "DELETE" }).catch(told);
  });
  panel.addEventListener("toggle", () => {
    if (!panel.open || job !== null) return;
    refresh().catch(told);
    fetchJson(`${at}/jobs`).then((jobs) => {
      const running = jobs.find((each) => each.state === "running");
      if (running && job === null) followJob(running);
    }, told);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !panel.open || element("details").open) return;
    panel.open = false;
    panel.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (!panel.contains(event.target)) panel.open = false;
  });
}

function say(text) {
  // Screen readers would announce the same text again.
  if (element("job-said").textContent !== text) element("job-said").textContent = text;
}

function outcome({ state, report, error, source_errors: errors }) {
  if (state === "failed") return error;
  if (state === "interrupted") return "Stopped. Finished work is kept.";
  const counts = ["added", "changed", "moved", "copied", "gone", "left_out", "failed"];
  const said = counts.filter((name) => report[name]).map((name) => `${report[name]} ${name.replace("_", " ")}`);
  const unreadable = Object.entries(errors).map(([name, reason]) => ` ${name}: ${reason}`);
  return `Up to date: ${said.join(", ") || "no changes"}.${unreadable.join("")}`;
}
