// Draws the last hour's charts from the values that the page's figures carry.

const LINES = {
  requests: [["requests", "requests"], ["errors", "errors"]],
  ratio: [["hits", "hits"], ["memory_hits", "from memory"]],
  duration: [["hit_ms", "hits"], ["render_ms", "renders"]],
  workers: [["busy", "at work"], ["queued", "in the queue"]],
  memory: [["memory_mb", "all processes"], ["cache_mb", "pictures"]],
  cpu: [["cpu", "cores"]],
};
const MIN_SPAN_S = 600;
const HEIGHT_PX = 160;
const drawn = new Map();

/** A colour that canvas understands: the style's variables use light-dark(). */
function resolved(name) {
  const probe = document.createElement("span");
  probe.className = name;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function readSeries() {
  return JSON.parse(document.querySelector("#series").dataset.series);
}

function formatted(value) {
  if (value === null || value === undefined) return "none";
  return value.toLocaleString("en-GB", { maximumSignificantDigits: 3, maximumFractionDigits: 3, roundingPriority: "lessPrecision" });
}

function options(id, width) {
  const ink = resolved("ink");
  const grid = { stroke: resolved("grid"), width: 1 };
  const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui, sans-serif" };
  const lines = LINES[id].map(([, label], index) => ({
    label,
    stroke: resolved(`line-${index}`),
    width: 2,
    dash: index ? [6, 3] : undefined,
    points: { show: id === "duration", size: 4 }, // a render between two intervals without one
  }));
  return {
    width,
    height: HEIGHT_PX,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true, range: (_plot, first, last) => [Math.min(first, last - MIN_SPAN_S), last] },
      y: { range: (_plot, low, high) => [0, id === "ratio" ? 100 : Math.max(high * 1.1, 1)] },
    },
    series: [{}, ...lines],
    axes: [
      { ...axis, values: (_plot, ticks) => ticks.map((at) => new Date(at * 1000).toISOString().slice(11, 16)), incrs: [60, 120, 300, 600, 900], space: 60 },
      { ...axis, size: 52, space: 28 },
    ],
  };
}

function values(id, series) {
  return [series.time, ...LINES[id].map(([name]) => series[name])];
}

/** A line's name in its colour, its newest and its highest value. */
function summaries(id, series) {
  return LINES[id].map(([name, label], index) => {
    const known = series[name].filter((value) => value !== null);
    const marker = document.createElement("span");
    marker.className = `line-${index} marker`;
    marker.textContent = index ? "╌ " : "━ ";
    marker.ariaHidden = "true";
    const part = document.createElement("span");
    const numbers = known.length ? `${formatted(series[name].at(-1))}, at most ${formatted(Math.max(...known))}` : "none";
    part.append(marker, `${label}: ${numbers}`);
    return part;
  });
}

function draw(series) {
  for (const element of document.querySelectorAll("[data-chart]")) {
    const id = element.dataset.chart;
    const summary = document.querySelector(`#summary-${id}`);
    if (!series.time.length) {
      summary.textContent = "The first values come within 10 seconds.";
      continue;
    }
    summary.replaceChildren(...summaries(id, series));
    const plot = drawn.get(id);
    if (plot) plot.setData(values(id, series));
    else drawn.set(id, new uPlot(options(id, element.clientWidth), values(id, series), element));
  }
}

/** Draws all charts anew: the theme, and with it the colours, have changed. */
function redraw() {
  for (const plot of drawn.values()) plot.destroy();
  drawn.clear();
  draw(readSeries());
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    drawn.get(target.dataset.chart)?.setSize({ width: target.clientWidth, height: HEIGHT_PX });
  }
});
for (const element of document.querySelectorAll("[data-chart]")) sizes.observe(element);

document.addEventListener("htmx:afterSwap", () => draw(readSeries()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
draw(readSeries());
