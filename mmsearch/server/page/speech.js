// Spoken searches: records the microphone while the button is pressed in, and sends the recording.

const MAX_RECORDING_MS = 30_000;
const NAMES = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it in the settings of the site.",
  NotFoundError: "There is no microphone. Connect one, or type the description.",
};

/** Return why spoken searches are not possible here, or null if they are. */
function obstacle(installed) {
  if (!installed) return "Spoken searches need the extra 'speech' on the server.";
  if (!isSecureContext) {
    return "Spoken searches need https or localhost: browsers give no other page a microphone.";
  }
  return navigator.mediaDevices?.getUserMedia && "MediaRecorder" in globalThis
    ? null
    : "This browser cannot record sound, so there are no spoken searches.";
}

/** Record the microphone until the function that it returns is called, or half a minute has passed. */
async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const recording = new Promise((resolve, reject) => {
    recorder.addEventListener("stop", () => {
      clearTimeout(timer);
      stream.getTracks().forEach((track) => track.stop());
      resolve(new Blob(parts, { type: recorder.mimeType }));
    });
    recorder.addEventListener("error", (event) => reject(event.error));
  });
  const stop = () => recorder.state !== "inactive" && recorder.stop();
  const timer = setTimeout(stop, MAX_RECORDING_MS);
  recorder.start();
  return { recording, stop };
}

/**
 * Show the button for spoken searches, or say why it is missing.
 *
 * @param {boolean} installed True if the server recognizes speech.
 * @param {(recording: Blob) => Promise<string>} search Searches by a recording, and returns what was heard.
 */
export function bindSpeech(installed, search) {
  const button = document.getElementById("speak");
  const said = document.getElementById("speech-said");
  const hint = document.getElementById("speech-hint");
  const reason = obstacle(installed);
  if (reason !== null) {
    hint.textContent = reason;
    hint.hidden = false;
    return;
  }
  let stop = null;
  const setRecording = (active) => {
    button.classList.toggle("recording", active);
    button.textContent = active ? "Stop" : "Speak";
  };
  button.hidden = false;
  document.getElementById("search").addEventListener("input", () => {
    said.textContent = "";
  });
  button.addEventListener("click", async () => {
    if (stop !== null) {
      stop();
      return;
    }
    // Until the browser has asked for permission, further clicks do nothing.
    stop = () => {};
    try {
      const started = await record();
      stop = started.stop;
      setRecording(true);
      said.textContent = "Listening. Describe a picture, then press Stop.";
      const recording = await started.recording;
      setRecording(false);
      button.disabled = true;
      said.textContent = "Recognizing what you said.";
      said.textContent = `Heard: ${await search(recording)}`;
    } catch (error) {
      said.textContent = NAMES[error.name] ?? error.message;
    } finally {
      stop = null;
      button.disabled = false;
      setRecording(false);
    }
  });
}
