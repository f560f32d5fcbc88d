// Uploads chosen or dropped files, a few at a time. Adding the same files again goes on with what is missing.

const MAX_AT_ONCE = 3;
const MAX_KEY_BYTES = 900;
const MAX_REMEMBERED = 5000;
const REMEMBERED = "galerly-uploads";

const form = document.querySelector("#upload");
const galleryInput = document.querySelector("#gallery");
const filesInput = document.querySelector("#files");
const list = document.querySelector("#list");
const uploads = [];

// -------------------------------------------------------------------------------------------- keys

function galleryName() {
  return galleryInput.value.trim().replace(/^\/+|\/+$/g, "");
}

/** Why a key cannot be used; empty if it can. The server decides; a browser would resolve `..` itself. */
function keyProblem(key) {
  if (new TextEncoder().encode(key).length > MAX_KEY_BYTES) return `A key has at most ${MAX_KEY_BYTES} bytes.`;
  if (/[\p{Cc}\\]/u.test(key)) return "A key has no backslash and no control characters.";
  const segments = key.split("/");
  if (segments.some((one) => !one)) return "Between two slashes of a key there is a name.";
  return segments.some((one) => one.startsWith(".")) ? "No name in a key begins with a dot." : "";
}

function keyOf(name) {
  return galleryName() ? `${galleryName()}/${name}` : name;
}

function pathOf(key) {
  return `/originals/${key.split("/").map(encodeURIComponent).join("/")}`;
}

function preview() {
  const key = keyOf("photo.jpg");
  document.querySelector("#preview").textContent = key;
  const problem = keyProblem(key);
  document.querySelector("#gallery-problem").textContent = problem;
  galleryInput.setAttribute("aria-invalid", String(Boolean(problem)));
  return problem;
}

// ------------------------------------------------------------------- what this tab has sent before

function remembered() {
  return new Map(parsed(sessionStorage.getItem(REMEMBERED) ?? "[]"));
}

function remember(key, digest, version) {
  const known = remembered();
  known.delete(key);
  known.set(key, [digest, version]);
  try {
    sessionStorage.setItem(REMEMBERED, JSON.stringify([...known].slice(-MAX_REMEMBERED)));
  } catch {
    sessionStorage.removeItem(REMEMBERED); // full: files are sent again, and the server says `unchanged`
  }
}

/** Whether the store still has the version that this tab made of exactly these bytes. */
async function isStored(key, digest) {
  const [knownDigest, version] = remembered().get(key) ?? [];
  if (!digest || digest !== knownDigest) return false;
  const response = await fetch(pathOf(key)).catch(() => null);
  return Boolean(response?.ok) && (await response.json()).version === version;
}

/** SHA-256 in base64; empty where the browser has none (http on another machine). */
async function digestOf(file) {
  if (!crypto.subtle) return "";
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return btoa(String.fromCharCode(...digest));
}

// ---------------------------------------------------------------------------------------- one file

/** One file on its way: `waiting`, `active`, `stored`, `conflict`, `failed` or `cancelled`. */
class Upload {
  constructor(file, key) {
    Object.assign(this, { file, key, replaces: false, sent: 0, aborts: new AbortController() });
    this.row = document.querySelector("#row").content.cloneNode(true).firstElementChild;
    this.row.querySelector(".key").textContent = key;
    this.row.querySelector(".length").textContent = lengthText(file.size);
    for (const name of ["cancel", "retry", "replace"]) {
      const button = this.row.querySelector(`.${name}`);
      button.setAttribute("aria-label", `${button.textContent} ${key}`);
      button.addEventListener("click", () => this[name]());
    }
    list.append(this.row);
    const problem = keyProblem(key) || this.fileProblem();
    this.set(problem ? "failed" : "waiting", problem || "Waiting.");
  }

  fileProblem() {
    if (!this.file.size) return "The file is empty, or a folder: open a folder and choose its files.";
    const limit = Number(form.dataset.maxBytes);
    return this.file.size > limit ? `The file is larger than ${lengthText(limit)}, the limit for uploads.` : "";
  }

  get isOver() {
    return ["stored", "failed", "cancelled"].includes(this.state);
  }

  set(state, text) {
    this.state = state;
    this.row.dataset.state = state;
    this.row.querySelector(".state").textContent = text;
    this.row.querySelector(".cancel").hidden = this.isOver;
    this.row.querySelector(".retry").hidden = !["failed", "cancelled"].includes(state);
    this.row.querySelector(".replace").hidden = state !== "conflict";
    this.show(state === "stored" ? this.file.size : 0);
    summarize();
  }

  show(sent) {
    this.sent = sent;
    const bar = this.row.querySelector("progress");
    bar.setAttribute("aria-label", this.key);
    Object.assign(bar, { max: this.file.size || 1, value: sent });
    showTotal();
  }

  async run() {
    this.aborts = new AbortController();
    this.set("active", "Reading.");
    try {
      const digest = await digestOf(this.file);
      if (this.state !== "active") return;
      if (!this.replaces && (await isStored(this.key, digest))) {
        this.set("stored", "Already stored: not sent again.");
        return;
      }
      if (this.state !== "active") return;
      await this.send(digest);
    } catch (error) {
      if (this.state === "active") this.set("failed", fileError(error));
    }
  }

  async send(digest) {
    this.row.querySelector(".state").textContent = "Sending.";
    const headers = digest ? { "Content-Digest": `sha-256=:${digest}:` } : {};
    const path = pathOf(this.key) + (this.replaces ? "?replace=true" : "");
    const onProgress = (sent) => {
      if (this.state !== "active") return;
      this.show(sent);
      if (sent >= this.file.size) this.row.querySelector(".state").textContent = "Checking.";
    };
    const { status, answer } = await sendFile(path, this.file, headers, onProgress, this.aborts.signal);
    if (status < 300) {
      remember(this.key, digest, answer.version);
      const texts = { created: "Stored.", replaced: "Replaced.", unchanged: "Already stored: the same bytes." };
      this.set("stored", texts[answer.outcome]);
    } else if (answer.error?.code === "original-exists") {
      this.set("conflict", "Another photograph has this key. Replace it, or cancel and keep it.");
    } else this.set("failed", problemOf(status, answer));
  }

  cancel() {
    this.set("cancelled", "Cancelled.");
    this.aborts.abort();
    this.row.querySelector(".retry").focus();
    pump();
  }

  retry() {
    const problem = keyProblem(this.key) || this.fileProblem();
    if (problem) return;
    this.set("waiting", "Waiting.");
    this.row.querySelector(".cancel").focus();
    pump();
  }

  async replace() {
    const isWanted = await ask(`Replace ${this.key}? The stored photograph is lost.`, "Replace");
    if (!isWanted || this.state !== "conflict") return;
    this.replaces = true;
    this.retry();
  }
}

function fileError(error) {
  const isUnreadable = ["NotFoundError", "NotReadableError"].includes(error.name);
  return isUnreadable ? "The file cannot be read: it has changed, or is a folder. Choose it again." : error.message;
}

function lengthText(bytes) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= size) return `${(bytes / size).toFixed(1)} ${unit}`;
  }
  return `${bytes} bytes`;
}

// --------------------------------------------------------------------------------------- the queue

function pump() {
  const active = uploads.filter((one) => one.state === "active").length;
  for (const one of uploads.filter(({ state }) => state === "waiting").slice(0, MAX_AT_ONCE - active)) {
    one.run().finally(pump);
  }
}

function add(files) {
  if (preview()) {
    galleryInput.focus();
    return;
  }
  for (const file of files) {
    const key = keyOf(file.name);
    const former = uploads.find((one) => one.key === key && one.state !== "failed" && one.state !== "cancelled");
    if (former && isSame(former.file, file)) continue;
    if (former && !former.isOver) {
      const refused = new Upload(file, key);
      refused.set("failed", "Another file of this name is in the list.");
      uploads.push(refused);
      continue;
    }
    for (const one of uploads.filter((other) => other.key === key)) drop(one);
    uploads.push(new Upload(file, key));
  }
  document.querySelector("#queue").hidden = !uploads.length;
  summarize();
  pump();
}

function isSame(one, other) {
  return one.size === other.size && one.lastModified === other.lastModified;
}

function drop(upload) {
  upload.row.remove();
  uploads.splice(uploads.indexOf(upload), 1);
}

function counted(state) {
  return uploads.filter((one) => one.state === state).length;
}

function summarize() {
  const parts = [`${counted("stored")} of ${uploads.length} stored`];
  if (counted("conflict")) parts.push(`${counted("conflict")} ${counted("conflict") === 1 ? "needs" : "need"} an answer`);
  if (counted("failed")) parts.push(`${counted("failed")} failed`);
  if (counted("cancelled")) parts.push(`${counted("cancelled")} cancelled`);
  const text = `${parts.join(", ")}.`;
  const summary = document.querySelector("#summary");
  if (summary.textContent !== text) summary.textContent = text;
  document.querySelector("#retry-all").disabled = !counted("failed");
  document.querySelector("#cancel-all").disabled = !counted("waiting") && !counted("active");
}

function showTotal() {
  const max = uploads.reduce((sum, one) => sum + one.file.size, 0);
  const value = uploads.reduce((sum, one) => sum + one.sent, 0);
  Object.assign(document.querySelector("#total"), { max: max || 1, value });
}

// ---------------------------------------------------------------------------------------- the form

form.addEventListener("submit", (event) => event.preventDefault());
galleryInput.addEventListener("input", preview);
filesInput.addEventListener("change", () => {
  add(filesInput.files);
  filesInput.value = "";
});
const target = document.querySelector("#drop");
for (const [name, isOver] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a file beside the field would be opened in place of the page
    target.classList.toggle("over", isOver);
    if (name === "drop") add(event.dataTransfer.files);
  });
}
document.querySelector("#cancel-all").addEventListener("click", () => {
  for (const one of uploads.filter(({ state }) => state === "waiting")) one.cancel();
  for (const one of uploads.filter(({ state }) => state === "active")) one.cancel();
});
document.querySelector("#retry-all").addEventListener("click", () => {
  for (const one of uploads.filter(({ state }) => state === "failed")) one.retry();
});
document.querySelector("#clear").addEventListener("click", () => {
  for (const one of uploads.filter(({ state }) => state === "stored" || state === "cancelled")) drop(one);
  document.querySelector("#queue").hidden = !uploads.length;
  summarize();
  showTotal();
});
addEventListener("beforeunload", (event) => {
  if (counted("active") || counted("waiting")) event.preventDefault();
});
preview();
