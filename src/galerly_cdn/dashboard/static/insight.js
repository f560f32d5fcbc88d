// Reports on log files that are chosen or dropped, and the announcements of what runs in the background.

const announced = document.querySelector("#progress");

function announce() {
  const state = document.querySelector("#state")?.dataset.said ?? "";
  if (announced && announced.textContent !== state) announced.textContent = state;
}

document.addEventListener("htmx:afterSettle", announce);

const filters = document.querySelector("#filters");
const chosen = document.querySelector("#files");
const drop = document.querySelector("#drop");

/** Why the files cannot be sent; empty if they can. */
function refusal(files) {
  const bytes = [...files].reduce((sum, one) => sum + one.size, 0);
  if (files.length > Number(filters.dataset.maxFiles)) return `Choose at most ${filters.dataset.maxFiles} files.`;
  if (bytes > Number(filters.dataset.maxBytes)) {
    return "The files are too large to be sent. Run `galerly-cdn report FILES` where they are, or choose fewer.";
  }
  return bytes ? "" : "The files are empty.";
}

/** Send the files in one request: a line that names them, then their bytes. */
function send(files) {
  const names = [...files].map((one) => ({ name: one.name.slice(-255), length_bytes: one.size }));
  const query = new URLSearchParams({ since: filters.since.value, gallery: filters.gallery.value });
  const request = new XMLHttpRequest();
  const sent = document.querySelector("#sent");
  const end = (message) => {
    sent.hidden = true;
    filters.querySelector("button").disabled = false;
    said.textContent = message;
  };
  request.open("POST", `${filters.dataset.files}?${query}`);
  for (const [name, value] of Object.entries({ ...csrfHeaders(), "HX-Request": "true" })) {
    request.setRequestHeader(name, value);
  }
  request.upload.onprogress = (event) => { sent.value = event.loaded / event.total; };
  request.onerror = () => end("The files could not be sent: the server does not answer, or refused them.");
  request.onload = () => {
    const redirect = request.getResponseHeader("HX-Redirect");
    if (redirect) return location.assign(redirect);
    const answer = new DOMParser().parseFromString(request.responseText, "text/html");
    if (request.status !== 200) return end(answer.body.textContent.trim() || `The server answered ${request.status}.`);
    htmx.swap("#state", request.responseText, { swapStyle: "outerHTML" });
    filters.querySelector("#files").value = "";
    end("");
  };
  sent.hidden = false;
  sent.value = 0;
  filters.querySelector("button").disabled = true;
  request.send(new Blob([`${JSON.stringify({ files: names })}\n`, ...files]));
}

filters?.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target !== filters || !chosen.files.length) return;
  event.preventDefault();
  const why = refusal(chosen.files);
  said.textContent = why;
  if (!why) send(chosen.files);
});

for (const kind of ["dragover", "drop", "dragleave"]) {
  filters?.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) chosen.files = event.dataTransfer.files;
  });
}
