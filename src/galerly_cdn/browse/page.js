// The lightbox, and each picture's details. Without it the page is a grid of links to large pictures.

const photographs = [...document.querySelectorAll("a.photograph")];
const lightbox = document.querySelector("#lightbox");
const large = lightbox.querySelector("img");
const details = document.querySelector("#details");
const embed = document.querySelector("#embed");
const SWIPE_PX = 40;
let shown = null;

// ---------------------------------------------------------------------------------------- lightbox

function after(link, steps) {
  return photographs.at((photographs.indexOf(link) + steps) % photographs.length);
}

function show(link) {
  shown = link;
  const small = link.querySelector("img");
  const [width, height] = link.dataset.large.split("x").map(Number);
  Object.assign(large, { alt: small.alt, width, height });
  large.style.maxWidth = `${width}px`; // never enlarged
  large.style.maxHeight = `${height}px`;
  large.src = small.currentSrc || link.href; // at hand; the large one takes its place once decoded
  const coming = new Image();
  coming.src = link.href;
  const replace = () => {
    if (shown !== link || !lightbox.open) return;
    large.src = link.href;
    new Image().src = after(link, 1).href; // likely next
  };
  coming.decode().then(replace, replace);
  lightbox.querySelector(".name").textContent = small.alt;
  lightbox.querySelector(".position").textContent = `${photographs.indexOf(link) + 1} of ${photographs.length}`;
}

lightbox.addEventListener("close", () => {
  large.removeAttribute("src");
  shown.focus();
});

lightbox.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") show(after(shown, -1));
  if (event.key === "ArrowRight") show(after(shown, 1));
});

let touched = null;
lightbox.addEventListener("touchstart", (event) => {
  touched = event.touches.length === 1 ? event.touches[0] : null;
}, { passive: true });
lightbox.addEventListener("touchend", (event) => {
  if (!touched || event.touches.length || visualViewport.scale > 1.05) return;
  const { clientX, clientY } = event.changedTouches[0];
  const across = clientX - touched.clientX;
  if (Math.abs(across) > SWIPE_PX && Math.abs(across) > Math.abs(clientY - touched.clientY)) {
    show(after(shown, across < 0 ? 1 : -1));
  }
});

// ----------------------------------------------------------------------------------------- details

function tell(fact, text) {
  details.querySelector(`[data-fact=${fact}]`).textContent = text;
}

function bytes(count) {
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
}

/** How the picture on the screen got here, as the browser timed it. */
function loaded(timing) {
  if (!timing) return "not timed by this browser";
  if (timing.transferSize === 0 && timing.encodedBodySize > 0) return "from this browser’s cache";
  const render = timing.serverTiming?.find((stage) => stage.name === "render");
  const made = render ? `, ${Math.round(render.duration)} ms of them to render it` : "";
  return `in ${Math.round(timing.duration)} ms${made}`;
}

/** Cache-Status (RFC 9211) in words. */
function cached(status) {
  const [, ...parameters] = (status ?? "").split(";").map((one) => one.trim());
  if (parameters.includes("hit")) {
    return parameters.includes("detail=store") ? "hit, from the store" : "hit, from memory";
  }
  return parameters.includes("fwd=stale") ? "miss: made anew" : "miss: made now";
}

async function ask(image, timing) {
  const address = new URL(image.currentSrc || image.src);
  // The format this browser was given; `fetch` by itself would ask for any.
  const accept = timing?.contentType || "image/avif,image/webp,image/*;q=0.8";
  const began = performance.now();
  const answer = await fetch(address, { method: "HEAD", cache: "no-store", headers: { accept } });
  const took = performance.now() - began;
  if (!answer.ok) return { problem: await reason(address) };
  const format = answer.headers.get("content-type").replace("image/", "");
  const suffix = ["avif", "webp"].includes(format) ? `.${format}` : "";
  const path = address.pathname.replace(/^\/resize\/([^/]+)/, `/-/record/$1${suffix}`);
  const record = await fetch(path, { cache: "no-store" });
  return {
    format,
    took,
    length: Number(answer.headers.get("content-length")),
    cache: answer.headers.get("cache-status"),
    ...(record.ok ? await record.json() : {}),
  };
}

async function reason(address) {
  const answer = await fetch(address);
  return answer.ok ? "" : (await answer.json()).error.message;
}

function snippet(image, link) {
  const copy = document.createElement("img");
  const here = (path) => location.origin + path;
  copy.setAttribute("src", here(image.getAttribute("src")));
  copy.setAttribute("srcset", image.getAttribute("srcset").split(", ").map(here).join(", "));
  copy.setAttribute("sizes", "auto, 100vw");
  for (const name of ["width", "height", "alt", "loading", "decoding"]) {
    copy.setAttribute(name, image.getAttribute(name));
  }
  return copy.outerHTML;
}

async function tellOf(link, image) {
  const small = link.querySelector("img");
  const timing = performance.getEntriesByName(image.currentSrc).at(-1);
  tell("name", link.dataset.key);
  tell("original", link.dataset.original);
  tell("loaded", loaded(timing));
  for (const fact of ["shown", "asked", "lost"]) tell(fact, "…");
  embed.value = snippet(small, link);
  details.querySelector(".said").textContent = "";
  details.showModal();
  const found = await ask(image, timing).catch(() => ({ problem: "The server does not answer." }));
  if (found.problem !== undefined) {
    for (const fact of ["shown", "asked", "lost"]) tell(fact, "–");
    tell("shown", found.problem);
    return;
  }
  const { record, lost } = found;
  const sides = record ? `, ${record.width_px} × ${record.height_px} px` : "";
  tell("shown", `${found.format.toUpperCase()}${sides}, ${bytes(found.length)}`);
  tell("asked", `${cached(found.cache)}, ${found.took.toFixed(1)} ms`);
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
  const done = await navigator.clipboard?.writeText(embed.value).then(() => true, () => false);
  details.querySelector(".said").textContent = done ? "Copied." : "Selected: copy it with your keyboard.";
}

// ------------------------------------------------------------------------------------------- wiring

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
  if (tile) tellOf(tile, tile.querySelector("img"));
  else if (button.matches(".more")) tellOf(shown, large);
  else if (button.matches(".previous")) show(after(shown, -1));
  else if (button.matches(".next")) show(after(shown, 1));
  else if (button.matches(".copy")) copyEmbed();
  else if (button.matches(".close")) button.closest("dialog").close();
});

/** A photograph whose header was sound but whose pixels are not: say why, where it would be. */
async function fail(image) {
  const tile = image.closest(".tile");
  if (!tile || tile.matches(".quiet")) return;
  const words = document.createElement("p");
  const name = document.createElement("b");
  name.textContent = image.alt;
  words.append(name, await reason(image.currentSrc || image.src).catch(() => "It could not be loaded."));
  photographs.splice(photographs.indexOf(image.closest("a")), 1);
  tile.classList.add("quiet");
  tile.replaceChildren(words);
}

document.addEventListener("error", (event) => { if (event.target.matches?.("img")) fail(event.target); }, true);
for (const link of photographs.slice()) {
  const image = link.querySelector("img");
  if (image.complete && image.currentSrc && !image.naturalWidth) fail(image);
}
