// Actions on photographs and galleries with their progress, the questions before them, and copying.

const SHOWN_PROBLEMS = 20;
const SAID_MS = 4000;

/** Asks a question; whether the answer is the button named `verb`. */
function ask(text, verb) {
  const dialog = document.querySelector("#ask");
  dialog.querySelector("#ask-text").textContent = text;
  dialog.querySelector(".yes").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** The sentence for people in an answer that is no success. */
function problemOf(status, answer) {
  if (status === 401) return "The session has ended: load the page again and sign in.";
  const { message, code, request_id: id } = answer.error ?? {};
  return message ? `${message} (${code}, request ${id})` : `The server answered ${status}.`;
}

/** Sends a file by PUT; the status and the answer. Rejects if there is no answer. */
function sendFile(path, file, headers, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path);
    for (const [name, value] of Object.entries({ ...csrfHeaders(), ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => resolve({ status: request.status, answer: parsed(request.responseText) });
    request.onerror = () => reject(new Error("The server does not answer."));
    request.onabort = () => reject(new DOMException("Stopped.", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

// ---------------------------------------------------------------------------------------- progress

const panel = document.querySelector("#progress");

const progress = {
  begin(text, total) {
    panel.hidden = false;
    panel.querySelector("progress").hidden = false;
    panel.querySelector(".stop").hidden = false;
    panel.querySelector(".problems").replaceChildren();
    this.say(text);
    this.total = total;
    this.set(0);
  },
  set(value) {
    const bar = panel.querySelector("progress");
    if (!this.total) bar.removeAttribute("value");
    else Object.assign(bar, { max: this.total, value: Math.min(value, this.total) });
  },
  say(text) {
    panel.querySelector("#progress-text").textContent = text;
  },
  problem(text) {
    const list = panel.querySelector(".problems");
    if (list.childElementCount >= SHOWN_PROBLEMS) return;
    list.append(Object.assign(document.createElement("li"), { className: "problem", textContent: text }));
  },
  end(text) {
    panel.querySelector("progress").hidden = true;
    panel.querySelector(".stop").hidden = true;
    this.say(text);
  },
};

/** Counts what the lines of a warming or of a purge report. */
class Tally {
  constructor() {
    Object.assign(this, { lines: 0, made: 0, there: 0, removed: 0, failed: 0, last: "", complete: "" });
  }

  add(line) {
    this.lines += 1;
    if (line.key !== this.last) [this.complete, this.last] = [this.last, line.key];
    if (line.error) {
      this.failed += 1;
      progress.problem(`${line.key}: ${problemOf(0, line)}`);
    } else if (line.removed) this.removed += line.removed.length;
    else if (line.was_there) this.there += 1;
    else this.made += 1;
  }

  text(verb) {
    const failed = this.failed ? `, ${this.failed} failed` : "";
    if (verb === "Warmed") return `${verb}: ${this.made} made, ${this.there} were there${failed}.`;
    return `${verb}: ${this.removed} renditions of ${this.lines} photographs${failed}.`;
  }
}

async function readLines(response, tally, verb) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) tally.add(JSON.parse(line));
    progress.set(tally.lines);
    progress.say(tally.text(verb));
  }
}

// ----------------------------------------------------------------------------------------- actions

let running = null;

/** What follows an action: another page, the same page, or its part about renditions. */
function proceed(then) {
  if (then === "reload") location.reload();
  else if (then === "refresh") htmx.trigger("#renditions", "refresh");
  else if (then.startsWith("/")) location.assign(then);
}

async function act(form, signal) {
  const { method, verb, then } = form.dataset;
  const file = form.querySelector("input[type=file]")?.files[0];
  if (file) {
    const path = form.dataset.path;
    const { status, answer } = await sendFile(path, file, {}, (sent) => progress.set(sent), signal);
    if (status >= 300) throw new Error(problemOf(status, answer));
    progress.end(answer.outcome === "unchanged" ? "The file is the same: nothing was replaced." : `${verb}.`);
    return proceed(then);
  }
  const after = form.dataset.after ? `&after=${encodeURIComponent(form.dataset.after)}` : "";
  const response = await fetch(form.dataset.path + after, { method, headers: csrfHeaders(), signal });
  if (!response.ok) throw new Error(problemOf(response.status, parsed(await response.text())));
  const tally = new Tally();
  try {
    if (response.headers.get("content-type") === "application/jsonl") await readLines(response, tally, verb);
    else tally.add(await response.json());
  } catch (error) {
    if (then === "resume" && tally.complete) form.dataset.after = tally.complete;
    throw new Error(`${tally.text(verb)} ${reason(error)}`, { cause: error });
  }
  delete form.dataset.after;
  progress.end(tally.text(verb));
  proceed(then);
}

/** A sentence about an action that did not end. */
function reason(error) {
  if (error.name === "AbortError") return "Stopped: what was done stays done.";
  return error instanceof TypeError ? "The server does not answer." : error.message;
}

async function start(form) {
  if (running) return;
  if (form.dataset.ask && !(await ask(form.dataset.ask, form.querySelector("button").textContent.replace("…", "")))) return;
  running = new AbortController();
  const file = form.querySelector("input[type=file]")?.files[0];
  progress.begin("Begun.", file ? file.size : Number(form.dataset.total ?? 0));
  try {
    await act(form, running.signal);
  } catch (error) {
    progress.end(reason(error));
  } finally {
    running = null;
  }
}

for (const form of document.querySelectorAll("form.action")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start(form);
  });
  const input = form.querySelector("input[type=file]");
  form.querySelector(".choose")?.addEventListener("click", () => input.click());
  input?.addEventListener("change", async () => {
    if (input.files.length) await start(form);
    input.value = "";
  });
}
panel?.querySelector(".stop").addEventListener("click", () => running?.abort());
addEventListener("beforeunload", (event) => {
  if (running) event.preventDefault();
});

// ----------------------------------------------------------------------------- copying, forms' parts

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const area = document.getElementById(button.dataset.copies);
  area.select();
  // Outside of a secure context (http on another machine) there is no `navigator.clipboard`.
  const isCopied = navigator.clipboard
    ? await navigator.clipboard.writeText(area.value).then(() => true, () => document.execCommand("copy"))
    : document.execCommand("copy");
  said.textContent = isCopied ? "Copied." : "Not copied: the text is selected, copy it with the keyboard.";
  setTimeout(() => { said.textContent = ""; }, SAID_MS);
});

// A form's part says what is wrong with its fields, with the status 400.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status !== 400 || !event.detail.requestConfig.elt.hasAttribute("data-shows-problems")) return;
  event.detail.shouldSwap = true;
  event.detail.isError = false;
});
