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

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) said.textContent = "";
});
document.addEventListener("htmx:sendError", () => { said.textContent = "The server does not answer."; });
document.addEventListener("htmx:responseError", (event) => {
  const answer = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  said.textContent = answer.body.textContent.trim() || `The server answered ${event.detail.xhr.status}.`;
});
