// Says in a picture's place why it is not shown, and asks again while the renderers are busy.

const MAX_TRIES = 4;

async function explain(image) {
  image.dataset.tries = Number(image.dataset.tries ?? 0) + 1;
  // The browser's own formats: another `Accept` would make another rendition.
  const headers = { accept: "image/avif,image/webp,image/*" };
  const response = await fetch(image.src, { headers }).catch(() => null);
  const isBusy = response?.status === 503;
  if ((response?.ok || isBusy) && image.dataset.tries < MAX_TRIES) {
    const waitS = isBusy ? Number(response.headers.get("retry-after") ?? 1) : 0;
    setTimeout(() => { image.src = image.getAttribute("src"); }, 1000 * waitS);
    return;
  }
  const answer = await response?.json().catch(() => ({}));
  const text = answer?.error?.message ?? "The server does not answer.";
  image.replaceWith(Object.assign(document.createElement("span"), { className: "no-picture", textContent: text }));
}

for (const image of document.querySelectorAll("main img")) {
  image.addEventListener("error", () => explain(image));
  if (image.complete && !image.naturalWidth && image.currentSrc) explain(image); // it failed before this script ran
}
