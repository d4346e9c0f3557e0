// The chart of a migration's rounds: what is left (left axis, bytes), throughput and dirty rate (right axis, bytes/s).

const language = document.documentElement.lang;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function size(value) {
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${value.toLocaleString(language, { maximumFractionDigits: value >= 100 ? 0 : 1 })} ${UNITS[unit]}`;
}

// Steps of a binary unit, so that an axis reads 0, 256 MiB, 512 MiB.
function ticks(_plot, _axis, low, high, step) {
  const wide = 2 ** Math.ceil(Math.log2(Math.max(step, 1)));
  const found = [];
  for (let at = Math.ceil(low / wide) * wide; at <= high; at += wide) found.push(at);
  return found;
}

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(figure, width) {
  const text = figure.dataset;
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const bytes = { ...axis, splits: ticks, values: (_, found) => found.map(size), size: 76 };
  const rates = { ...bytes, scale: "rate", side: 1, grid: { show: false }, values: (_, found) => found.map((v) => `${size(v)}/s`), size: 92 };
  const show = (suffix) => (_, value) => (value == null ? "–" : size(value) + suffix);
  return {
    width, height: 260,
    scales: { x: { time: false }, bytes: { range: (_, low, high) => [0, high || 1] }, rate: { range: (_, low, high) => [0, high || 1] } },
    axes: [{ ...axis, label: text.textTime, labelSize: 18 }, { ...bytes, scale: "bytes" }, rates],
    series: [
      { label: text.textTime, value: (_, value) => (value == null ? "–" : `${value.toLocaleString(language)} s`) },
      { label: text.textRemaining, scale: "bytes", stroke: colour("--accent"), width: 2, fill: `color-mix(in srgb, ${colour("--accent")} 12%, transparent)`, value: show("") },
      { label: text.textThroughput, scale: "rate", stroke: colour("--good"), width: 2, dash: [8, 4], value: show("/s") },
      { label: text.textDirty, scale: "rate", stroke: colour("--bad"), width: 2, dash: [2, 3], value: show("/s") },
    ],
  };
}

function draw(figure) {
  const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const place = figure.querySelector(".plot");
  if (!data) return;
  const columns = [data.x, data.remaining_bytes, data.throughput_bps, data.dirty_rate_bps];
  if (figure.plot) { figure.plot.setData(columns); return; }
  figure.plot = new uPlot(options(figure, place.clientWidth || 320), columns, place);
}

function again(figure) {
  figure.plot?.destroy();
  figure.plot = undefined;
  draw(figure);
}

const figures = [...document.querySelectorAll("figure[data-chart]")];
figures.forEach(draw);
document.addEventListener("zugvogel:morphed", (event) => {
  const figure = event.target.closest?.("figure[data-chart]");
  if (figure) draw(figure);
});
let timer;
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => figures.forEach(again), 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => figures.forEach(again));
