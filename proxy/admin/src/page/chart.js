// The load chart: actual against what had been forecast, and what is forecast now. Plain SVG, no library.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 320;
const MARGIN = { left: 44, right: 16, top: 26, bottom: 26 };

const us = (duration) => duration.secs * 1e6 + duration.nanos / 1e3;

/** A span in microseconds, for people: `40 s`, `12 min`, `6 h`. */
export function span(microseconds) {
  const seconds = Math.abs(microseconds) / 1e6;
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** What to draw, from one pool's report: all times in microseconds relative to now. */
function series(pool, now) {
  const forecast = pool.forecast;
  const step = forecast ? us(forecast.step) : (pool.actual.at(-1)?.[0] - pool.actual.at(-2)?.[0]) || 60e6;
  const middle = (at) => at - now + step / 2;
  const actual = pool.actual.map(([at, value]) => ({ t: middle(at), value: value ?? NaN }));
  const seen = pool.forecast_past.filter((p) => p.at >= (pool.actual[0]?.[0] ?? 0));
  const past = seen.map((p) => ({ t: middle(p.at), mean: p.mean, low: p.low, high: p.high }));
  const farthest = Math.max(2 * pool.lead_s * 1e6, step * Math.max(6, ...pool.horizons));
  const points = (forecast?.points ?? []).map((p) => ({ t: middle(p.at), ...p.load }));
  const next = points.filter((p) => p.t <= farthest + step);
  const horizons = pool.horizons.map((steps) => points[steps - 1] && { steps, ...points[steps - 1] }).filter(Boolean);
  return { step, actual, past, next, horizons, lead: pool.lead_s * 1e6, capacity: pool.capacity };
}

/** Draws into `box`; `pool` is a pool's report, `now` the report's time. */
export function draw(box, pool, now) {
  const data = series(pool, now);
  const width = Math.max(320, box.clientWidth);
  const height = box.querySelector("svg")?.clientHeight || HEIGHT;
  const scales = fit(data, width, height);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(data) });
  axes(svg, scales, data);
  leadMarker(svg, scales, data);
  for (const band of [data.past, data.next]) forecastBand(svg, scales, band);
  if (data.capacity > 0 && data.capacity <= scales.top) {
    line(svg, "capacity", MARGIN.left, scales.y(data.capacity), width - MARGIN.right, scales.y(data.capacity));
  }
  svg.append(element("path", { class: "actual", d: path(data.actual, (p) => [scales.x(p.t), scales.y(p.value)]) }));
  for (const point of data.horizons) {
    if (point.t > scales.end) continue;
    svg.append(element("circle", { class: "horizon", cx: scales.x(point.t), cy: scales.y(point.mean), r: 4 }));
  }
  line(svg, "now", scales.x(0), MARGIN.top - 6, scales.x(0), height - MARGIN.bottom);
  label(svg, "now-label", scales.x(0), MARGIN.top - 12, "now", "middle");
  const tip = box.querySelector(".tip") ?? Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  hover(svg, tip, scales, data, box);
  box.replaceChildren(svg, tip);
}

function fit(data, width, height) {
  const times = [0, data.lead * 1.3, ...data.actual.map((p) => p.t), ...data.next.map((p) => p.t)];
  const start = Math.min(...times, -data.step * 10);
  const end = Math.max(...times);
  const seen = [...data.actual.map((p) => p.value), ...data.past.map((p) => p.mean), ...data.next.map((p) => p.mean)];
  // A very wide interval must not flatten what is there to be seen.
  const usual = Math.max(...seen.filter(Number.isFinite), 0.001);
  const highest = Math.max(usual, Math.min(usual * 2.5, Math.max(0, ...[...data.past, ...data.next].map((p) => p.high))));
  const near = data.capacity > 0 && data.capacity < highest * 1.8 ? data.capacity : 0;
  const top = Math.max(highest, near) * 1.08;
  const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  return {
    start, end, top, width, height,
    x: (t) => MARGIN.left + ((t - start) / (end - start)) * inner.w,
    y: (value) => MARGIN.top + (1 - Math.min(Math.max(value, 0), top) / top) * inner.h,
    t: (x) => start + ((x - MARGIN.left) / inner.w) * (end - start),
  };
}

/** A round distance that puts about `count` ticks into `range`. */
function tickStep(range, count, bases) {
  const rough = range / count;
  const found = bases.find((base) => base >= rough);
  if (found) return found;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

function axes(svg, scales, data) {
  const step = tickStep(scales.top, 4, []);
  for (let value = 0; value <= scales.top; value += step) {
    line(svg, "grid", MARGIN.left, scales.y(value), scales.width - MARGIN.right, scales.y(value));
    label(svg, "", MARGIN.left - 8, scales.y(value) + 4, value < 10 ? +value.toFixed(3) : Math.round(value), "end");
  }
  label(svg, "", 0, 10, "work, seconds per second", "start");
  const seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];
  const every = tickStep(scales.end - scales.start, scales.width / 110, seconds.map((s) => s * 1e6));
  for (let t = Math.ceil(scales.start / every) * every; t <= scales.end; t += every) {
    if (Math.abs(t) < every / 2) continue;
    label(svg, "", scales.x(t), scales.height - 6, `${t < 0 ? "−" : "+"}${span(t)}`, "middle");
  }
  if (data.actual.length === 0) label(svg, "", scales.width / 2, scales.height / 2, "no load recorded yet", "middle");
}

function leadMarker(svg, scales, data) {
  if (!(data.lead > 0) || data.lead > scales.end) return;
  const [from, to] = [scales.x(0), scales.x(data.lead)];
  const height = scales.height - MARGIN.bottom - MARGIN.top;
  svg.append(element("rect", { class: "lead-area", x: from, y: MARGIN.top, width: to - from, height }));
  line(svg, "lead", to, MARGIN.top - 6, to, scales.height - MARGIN.bottom);
  const tight = to - from < 64;
  label(svg, "lead-label", tight ? from + 20 : to, MARGIN.top - 12, `lead ${span(data.lead)}`, tight ? "start" : "middle");
}

function forecastBand(svg, scales, points) {
  if (points.length < 2) return;
  const upper = points.map((p) => `${scales.x(p.t)},${scales.y(p.high)}`);
  const lower = points.map((p) => `${scales.x(p.t)},${scales.y(p.low)}`).reverse();
  svg.append(element("polygon", { class: "band", points: [...upper, ...lower].join(" ") }));
  svg.append(element("path", { class: "mean", d: path(points, (p) => [scales.x(p.t), scales.y(p.mean)]) }));
}

function path(points, at) {
  let pen = "M";
  let d = "";
  for (const point of points) {
    const [x, y] = at(point);
    if (!Number.isFinite(y)) { pen = "M"; continue; }
    d += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return d;
}

function hover(svg, tip, scales, data, box) {
  const cross = element("line", { class: "cross", y1: MARGIN.top, y2: scales.height - MARGIN.bottom, visibility: "hidden" });
  svg.append(cross);
  const nearest = (points, t) => points.reduce((best, p) => (Math.abs(p.t - t) < Math.abs((best?.t ?? Infinity) - t) ? p : best), null);
  svg.addEventListener("pointermove", (event) => {
    const bounds = svg.getBoundingClientRect();
    const x = ((event.clientX - bounds.left) / bounds.width) * scales.width;
    const t = scales.t(x);
    const near = (points) => { const p = nearest(points, t); return p && Math.abs(p.t - t) <= data.step ? p : null; };
    const actual = near(data.actual);
    const foreseen = near([...data.past, ...data.next]);
    const lines = [`${t < 0 ? "−" : "+"}${span(t)}`];
    if (actual) lines.push(`actual    ${Number.isFinite(actual.value) ? actual.value.toFixed(3) : "gap"}`);
    if (foreseen) lines.push(`forecast  ${foreseen.mean.toFixed(3)}  (${foreseen.low.toFixed(2)} – ${foreseen.high.toFixed(2)})`);
    tip.textContent = lines.join("\n");
    tip.hidden = false;
    const right = event.clientX - bounds.left > bounds.width / 2;
    tip.style.left = right ? "" : `${event.clientX - bounds.left + 14}px`;
    tip.style.right = right ? `${box.clientWidth - (event.clientX - bounds.left) + 14}px` : "";
    for (const name of ["x1", "x2"]) cross.setAttribute(name, x);
    cross.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); });
}

/** The chart in words, for those who do not see it. */
function describe(data) {
  const now = data.actual.findLast((p) => Number.isFinite(p.value))?.value;
  const peak = data.next.reduce((best, p) => (p.mean > (best?.mean ?? -1) ? p : best), null);
  const parts = [now == null ? "No load recorded yet." : `Work arriving now: ${now.toFixed(2)} seconds per second.`];
  if (peak) parts.push(`Forecast peak: ${peak.mean.toFixed(2)}, between ${peak.low.toFixed(2)} and ${peak.high.toFixed(2)}, in ${span(peak.t)}.`);
  return parts.join(" ");
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function line(svg, name, x1, y1, x2, y2) {
  svg.append(element("line", { class: name, x1, y1, x2, y2 }));
}

function label(svg, name, x, y, text, anchor) {
  const node = element("text", { class: name, x, y, "text-anchor": anchor });
  node.textContent = text;
  svg.append(node);
}
