// Polling that stops while the tab is hidden, and messages about failed requests.

const said = document.querySelector("#said");

/** The headers with which a page's own `fetch` may make changes; empty without a session. */
function csrfHeaders() {
  return JSON.parse(document.body.getAttribute("hx-headers") ?? "{}");
}

function isPolled(element) {
  return element.getAttribute("hx-trigger")?.includes("every ") ?? false;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && isPolled(event.detail.elt)) event.preventDefault();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[hx-trigger*='refresh']")) htmx.trigger(element, "refresh");
});

let failed = null; // the element whose request failed

function say(element, text) {
  failed = element;
  said.textContent = text;
}

/** What a response says: an error of the API is JSON, one of a page is HTML. */
function message(response) {
  if (response.getResponseHeader("content-type")?.startsWith("application/json")) {
    return JSON.parse(response.responseText).error.message;
  }
  const answer = new DOMParser().parseFromString(response.responseText, "text/html");
  return answer.body.textContent.trim() || `The server answered ${response.status}.`;
}

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.detail.elt === failed) say(null, "");
});
document.addEventListener("htmx:sendError", (event) => say(event.detail.elt, "The server does not answer."));
document.addEventListener("htmx:responseError", (event) => say(event.detail.elt, message(event.detail.xhr)));
