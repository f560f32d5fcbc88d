// The lightbox and the details dialog. Without JavaScript, the page is a grid of links to large pictures.

const links = [...document.querySelectorAll("a.photograph")];
const lightbox = document.querySelector("#lightbox");
const large = lightbox.querySelector("img");
const details = document.querySelector("#details");
const embed = document.querySelector("#embed");
const SWIPE_PX = 40;
let shownLink = null;

// ---------------------------------------------------------------------------------------- lightbox

/** The photograph `steps` after a link, wrapping around at both ends. */
function neighbour(link, steps) {
  return links.at((links.indexOf(link) + steps) % links.length);
}

function show(link) {
  shownLink = link;
  const small = link.querySelector("img");
  const [width, height] = link.dataset.large.split("x").map(Number);
  Object.assign(large, { alt: small.alt, width, height });
  large.style.maxWidth = `${width}px`; // never enlarges the picture
  large.style.maxHeight = `${height}px`;
  large.src = small.currentSrc || link.href; // already loaded; replaced once the large one is decoded
  const preloaded = new Image();
  preloaded.src = link.href;
  const replace = () => {
    if (shownLink !== link || !lightbox.open) return;
    large.src = link.href;
    new Image().src = neighbour(link, 1).href; // preloads the next one
  };
  preloaded.decode().then(replace, replace);
  lightbox.querySelector(".name").textContent = small.alt;
  lightbox.querySelector(".position").textContent = `${links.indexOf(link) + 1} of ${links.length}`;
}

lightbox.addEventListener("close", () => {
  large.removeAttribute("src");
  shownLink.focus();
});

lightbox.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") show(neighbour(shownLink, -1));
  if (event.key === "ArrowRight") show(neighbour(shownLink, 1));
});

let touchStart = null;
lightbox.addEventListener("touchstart", (event) => {
  touchStart = event.touches.length === 1 ? event.touches[0] : null;
}, { passive: true });
lightbox.addEventListener("touchend", (event) => {
  if (!touchStart || event.touches.length || visualViewport.scale > 1.05) return;
  const { clientX, clientY } = event.changedTouches[0];
  const distance = clientX - touchStart.clientX;
  if (Math.abs(distance) > SWIPE_PX && Math.abs(distance) > Math.abs(clientY - touchStart.clientY)) {
    show(neighbour(shownLink, distance < 0 ? 1 : -1));
  }
});

// ----------------------------------------------------------------------------------------- details

function setFact(fact, text) {
  details.querySelector(`[data-fact=${fact}]`).textContent = text;
}

function formatBytes(count) {
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}

/** How the shown picture was loaded, from the browser's Resource Timing entry. */
function describeTiming(timing) {
  if (!timing) return "not timed by this browser";
  if (timing.transferSize === 0 && timing.encodedBodySize > 0) return "from this browser’s cache";
  const render = timing.serverTiming?.find((entry) => entry.name === "render");
  const renderPart = render ? `, ${Math.round(render.duration)} ms of them to render it` : "";
  return `in ${Math.round(timing.duration)} ms${renderPart}`;
}

/** The Cache-Status header (RFC 9211) in words. */
function describeCacheStatus(status) {
  const [, ...parameters] = (status ?? "").split(";").map((parameter) => parameter.trim());
  if (parameters.includes("hit")) {
    return parameters.includes("detail=store") ? "hit, from the store" : "hit, from memory";
  }
  return parameters.includes("fwd=stale") ? "miss: made anew" : "miss: made now";
}

/** Requests the picture again with HEAD, and its rendition's record. */
async function requestAgain(image, timing) {
  const address = new URL(image.currentSrc || image.src);
  // Requests the same format as the picture: `fetch` on its own sends `Accept: */*`.
  const accept = timing?.contentType || "image/avif,image/webp,image/*;q=0.8";
  const startedMs = performance.now();
  const response = await fetch(address, { method: "HEAD", cache: "no-store", headers: { accept } });
  const durationMs = performance.now() - startedMs;
  if (!response.ok) return { problem: await errorMessage(address) };
  const format = response.headers.get("content-type").replace("image/", "");
  const suffix = document.body.dataset.negotiable.split(" ").includes(format) ? `.${format}` : "";
  const path = address.pathname.replace(/^\/resize\/([^/]+)/, `/-/record/$1${suffix}`);
  const record = await fetch(path, { cache: "no-store" });
  return {
    format,
    durationMs,
    length: Number(response.headers.get("content-length")),
    cacheStatus: response.headers.get("cache-status"),
    ...(record.ok ? await record.json() : {}),
  };
}

async function errorMessage(address) {
  const response = await fetch(address);
  return response.ok ? "" : (await response.json()).error.message;
}

/** The HTML of an `<img>` that shows the picture on another page. */
function embedCode(image) {
  const copy = document.createElement("img");
  const absolute = (path) => location.origin + path;
  copy.setAttribute("src", absolute(image.getAttribute("src")));
  copy.setAttribute("srcset", image.getAttribute("srcset").split(", ").map(absolute).join(", "));
  copy.setAttribute("sizes", "auto, 100vw");
  for (const name of ["width", "height", "alt", "loading", "decoding"]) {
    copy.setAttribute(name, image.getAttribute(name));
  }
  return copy.outerHTML;
}

async function showDetails(link, image) {
  const small = link.querySelector("img");
  const timing = performance.getEntriesByName(image.currentSrc).at(-1);
  setFact("name", link.dataset.key);
  setFact("original", link.dataset.original);
  setFact("loaded", describeTiming(timing));
  for (const fact of ["shown", "asked", "lost"]) setFact(fact, "…");
  embed.value = embedCode(small);
  details.querySelector(".said").textContent = "";
  details.showModal();
  const result = await requestAgain(image, timing).catch(() => ({ problem: "The server does not answer." }));
  if (result.problem !== undefined) {
    for (const fact of ["shown", "asked", "lost"]) setFact(fact, "–");
    setFact("shown", result.problem);
    return;
  }
  const { record, lost } = result;
  const sides = record ? `, ${record.width_px} × ${record.height_px} px` : "";
  setFact("shown", `${result.format.toUpperCase()}${sides}, ${formatBytes(result.length)}`);
  setFact("asked", `${describeCacheStatus(result.cacheStatus)}, ${result.durationMs.toFixed(1)} ms`);
  const sentences = record ? Object.values(lost) : ["not known"];
  const items = (sentences.length ? sentences : ["Nothing."]).map((sentence) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    return item;
  });
  details.querySelector("[data-fact=lost]").replaceChildren(...items);
}

async function copyEmbed() {
  embed.select();
  const isCopied = await navigator.clipboard?.writeText(embed.value).then(() => true, () => false);
  details.querySelector(".said").textContent = isCopied ? "Copied." : "Selected: copy it with your keyboard.";
}

// -------------------------------------------------------------------------------------------- events

document.addEventListener("click", (event) => {
  const link = event.target.closest("a.photograph");
  if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
    event.preventDefault();
    lightbox.showModal();
    show(link);
    return;
  }
  const button = event.target.closest("button");
  if (!button) return;
  const tile = button.closest(".tile")?.querySelector("a.photograph");
  if (tile) showDetails(tile, tile.querySelector("img"));
  else if (button.matches(".more")) showDetails(shownLink, large);
  else if (button.matches(".previous")) show(neighbour(shownLink, -1));
  else if (button.matches(".next")) show(neighbour(shownLink, 1));
  else if (button.matches(".copy")) copyEmbed();
  else if (button.matches(".close")) button.closest("dialog").close();
});

/** Replaces a picture that failed to load with the error message, e.g. if its pixels are damaged. */
async function showError(image) {
  const tile = image.closest(".tile");
  if (!tile || tile.matches(".quiet")) return;
  const paragraph = document.createElement("p");
  const name = document.createElement("b");
  name.textContent = image.alt;
  paragraph.append(name, await errorMessage(image.currentSrc || image.src).catch(() => "It could not be loaded."));
  links.splice(links.indexOf(image.closest("a")), 1);
  tile.classList.add("quiet");
  tile.replaceChildren(paragraph);
}

document.addEventListener("error", (event) => { if (event.target.matches?.("img")) showError(event.target); }, true);
for (const link of links.slice()) {
  const image = link.querySelector("img");
  if (image.complete && image.currentSrc && !image.naturalWidth) showError(image);
}
