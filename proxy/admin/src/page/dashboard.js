// Draws the newest report. All text goes in as text, never as markup: names come from the outside.

import { draw, span } from "./chart.js";

const $ = (id) => document.getElementById(id);
const TIERS = [["baseline", "forecast"], ["cost", "cost"], ["peers", "peers"]];
const CLASSES = ["light", "medium", "heavy", "huge"];
const REASONS = {
  predicted: "smallest score", no_model: "running means", model_failed: "model failed", stale_table: "stale table",
  no_score: "no score", only_choice: "only one there", policy: "pool's policy", retry: "retry", panic: "panic",
  explored: "not heard of for a while",
};
const REFUSALS = {
  late: "would have been late", limit: "pool at its limit", late_in_queue: "too late while it waited",
  instances_full: "every instance at its limit", queue_full: "queue full", queue_timeout: "waited too long",
};
const ROUTING_ROWS = 12;

let report = null;
let chosenPool = decodeURIComponent(location.hash.slice(1));
let paused = false;

/** A node with attributes, and children that are nodes or text. */
function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "width") made.style.width = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

const percent = (ratio, digits = 0) => (ratio == null ? "–" : `${(ratio * 100).toFixed(digits)} %`);
const count = (number) => number.toLocaleString("en");

/** A duration in microseconds, for people. */
function time(us) {
  if (us == null) return "–";
  if (us < 1000) return `${us.toFixed(0)} µs`;
  if (us < 1e6) return `${(us / 1e3).toFixed(us < 1e4 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

function ago(at) {
  const passed = report.at - at;
  return passed < 2e6 ? "just now" : `${span(passed)} ago`;
}

function pool() {
  return report.pools.find((candidate) => candidate.name === chosenPool) ?? report.pools[0];
}

function render() {
  const shown = pool();
  $("generation").textContent = `table ${count(report.generation)}`;
  tabs(shown);
  if (!shown) return;
  $("mode").textContent = shown.mode;
  $("mode").className = `badge ${shown.mode}`;
  $("mode").title = { observe: "only looks", advise: "says what it would do", act: "carries plans out" }[shown.mode];
  $("policy").textContent = shown.policy;
  alarm(shown);
  figures(shown);
  $("forecast-note").textContent = forecastNote(shown);
  draw($("chart"), shown, report.at);
  scaling(shown);
  instances(shown);
  costs();
  tiers();
  shadows(shown);
  if (!paused) {
    routing(shown);
    refused(shown);
  }
}

function tabs(shown) {
  const names = report.pools.map((each) => each.name);
  if ($("pools").dataset.names === JSON.stringify([names, shown?.name])) return;
  $("pools").dataset.names = JSON.stringify([names, shown?.name]);
  $("pools").replaceChildren(...names.map((name) => node("button", {
    type: "button", "aria-current": String(name === shown.name),
    onclick: () => { chosenPool = name; history.replaceState(null, "", `#${encodeURIComponent(name)}`); render(); },
  }, name)));
}

function alarm(shown) {
  const problems = [];
  if (shown.panic) problems.push("Too few instances are healthy: all are used (panic).");
  if (shown.instances.length && !shown.instances.some((each) => each.state === "warm")) problems.push("No instance is warm.");
  $("alert").textContent = problems.join(" ");
  $("alert").hidden = problems.length === 0;
}

function figures(shown) {
  const warm = shown.instances.filter((each) => each.state === "warm").length;
  const coming = shown.instances.filter((each) => each.state === "warming" || each.state === "cold").length;
  const used = shown.capacity > 0 ? shown.work_rate / shown.capacity : null;
  const peak = peakBy(shown, 2 * shown.lead_s);
  const card = (value, unit, label, warn = false) =>
    node("div", { class: warn ? "figure warn" : "figure" }, node("b", {}, value, node("small", {}, unit)), node("span", {}, label));
  $("figures").replaceChildren(
    card(shown.request_rate.toFixed(shown.request_rate < 10 ? 1 : 0), "/s", "requests arriving"),
    card(used == null ? "–" : (used * 100).toFixed(0), "%", `of ${shown.capacity.toFixed(1)} warm capacity used`, used > 0.9),
    card(peak ? peak.load.mean.toFixed(2) : "–", "s/s", peak ? `work expected within ${span(2e6 * shown.lead_s)}, now ${shown.work_rate.toFixed(2)}` : "no forecast yet"),
    card(String(warm), coming ? `+ ${coming} coming` : "warm", "instances serving", warm === 0),
    card(shown.lead_s.toFixed(1), "s", "lead time: wish to ready, p95"),
    card(shown.coverage == null ? "–" : (shown.coverage * 100).toFixed(0), "%", "of load fell inside the interval (90 is right)"),
    card(report.model.skill == null ? "–" : (report.model.skill * 100).toFixed(0), "%", "less cost error than the route's mean"),
  );
}

/** The forecast's largest step within so many seconds. */
function peakBy(shown, seconds) {
  const soon = (shown.forecast?.points ?? []).filter((point) => point.at <= report.at + seconds * 1e6);
  return soon.reduce((best, point) => (point.load.mean > (best?.load.mean ?? -1) ? point : best), null);
}

function forecastNote(shown) {
  if (!shown.forecast) return shown.forecast_error ?? "no forecast yet";
  const score = shown.forecast.score;
  const error = score ? ` · error ${score.mase.toFixed(2)} × that of last season's value` : "";
  const late = shown.forecast_error ? ` · last attempt failed: ${shown.forecast_error}` : "";
  return `${shown.forecast.method}, made ${ago(shown.forecast.made_at)}${error}${late}`;
}

function scaling(shown) {
  const mine = report.scaling_decisions.filter((decision) => decision.pool === shown.name);
  // "Nothing to do" again and again says it once.
  const telling = mine.filter((decision, index) => decision.plan.action !== "hold" || mine[index - 1]?.plan.action !== "hold");
  keyed($("scaling"), telling.slice(0, 40), (decision) => decision.id, (decision) => node("li", { class: decision.plan.action },
    node("p", {}, decision.plan.words),
    node("div", { class: "meta" },
      node("b", {}, `${decision.plan.current} → ${decision.plan.target}`),
      node("span", { class: "when", "data-at": decision.at }),
      node("span", {}, decision.plan.reason.replaceAll("_", " ") + (decision.plan.limited_by ? `, limited by ${decision.plan.limited_by.replaceAll("_", " ")}` : "")),
      decision.mode === "act" ? null : node("span", {}, `${decision.mode} only`),
      node("button", { type: "button", class: "link", onclick: () => detail("scaling", decision.id) }, `#${decision.id}`))));
  if (telling.length === 0) $("scaling").replaceChildren(node("li", { class: "hold" }, node("p", { class: "quiet" }, "no decision yet")));
  for (const when of $("scaling").querySelectorAll(".when")) when.textContent = ago(Number(when.dataset.at));
}

/** Keeps the nodes of items that stay, so that focus and selection survive. */
function keyed(parent, items, key, make) {
  const old = new Map([...parent.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const name = String(key(item));
    const made = old.get(name) ?? make(item);
    made.dataset.key = name;
    return made;
  });
  if (wanted.length !== parent.children.length || wanted.some((child, index) => parent.children[index] !== child)) {
    parent.replaceChildren(...wanted);
  }
}

function instances(shown) {
  const loads = shown.instances.map((each) => each.load.total ?? 0);
  const full = Math.max(1, ...loads);
  $("instances").replaceChildren(...shown.instances.filter((each) => each.state !== "gone").map((each) => {
    const parts = TIERS.map(([tier]) => (each.load.loads[tier] ?? 0) * each.load.weights[tier]);
    const words = TIERS.map(([tier, name], index) => `${name} ${percent(parts[index])}`).join(", ");
    const bars = TIERS.map(([tier], index) => node("i", { class: tier, width: `${(parts[index] / full) * 100}%` }));
    const ramp = each.state === "warm" && each.warm < 0.995
      ? node("span", { class: "ramp", title: `warmed up to ${percent(each.warm)}` }, node("i", { width: percent(each.warm).replace(" ", "") })) : null;
    const odd = each.anomaly && each.anomaly.score > 3;
    return node("tr", {},
      node("td", { class: "name" }, each.address ?? "not running yet", node("small", {}, `#${each.id}`)),
      node("td", {}, node("span", { class: `state ${each.state}` }, each.state, ramp)),
      node("td", { class: "wide" }, node("div", { class: "score", title: words },
        node("div", { class: "stack", role: "img", "aria-label": words }, ...bars), node("b", {}, percent(each.load.total)))),
      node("td", { class: "number" }, count(each.in_flight)),
      node("td", { class: "number" }, time(each.work_in_flight_us)),
      node("td", { class: odd ? "number odd" : "number", title: odd ? `slower than its peers: z = ${each.anomaly.score.toFixed(1)}` : null }, `${each.speed.toFixed(2)} ×`),
      node("td", { class: "number" }, count(each.requests)),
      node("td", { class: each.failures ? "number bad" : "number" }, count(each.failures)));
  }));
}

function costs() {
  const { classes, class_borders_us: borders, card } = report.model;
  const sum = classes.reduce((total, each) => total + each, 0);
  const ranges = [`up to ${time(borders[0])}`, `to ${time(borders[1])}`, `to ${time(borders[2])}`, "above"];
  $("classes").setAttribute("aria-label", CLASSES.map((name, index) => `${name} ${percent(sum ? classes[index] / sum : 0)}`).join(", "));
  $("classes").replaceChildren(...CLASSES.map((name, index) => node("i", { class: name, width: `${sum ? (classes[index] / sum) * 100 : 0}%` })));
  $("class-legend").replaceChildren(...CLASSES.map((name, index) =>
    node("li", {}, node("i", { class: `box ${name}` }), `${name} ${ranges[index]} · ${percent(sum ? classes[index] / sum : null)}`)));
  const rows = [["requests learned from", count(report.model.learned)], ["training rows", count(report.model.rows)],
    ["costs inside the interval", `${percent(report.model.coverage)} (90 is right)`]];
  if (card) {
    rows.unshift(["model", `v${card.version}, ${card.trees} trees of depth ${card.depth}`],
      ["trained", ago(card.trained_at_us)]);
    rows.push(["error (log), model", card.log_rmse.toFixed(3)], ["error, means per key", card.key_mean_log_rmse.toFixed(3)],
      ["error, route's mean", card.route_mean_log_rmse.toFixed(3)]);
  } else rows.unshift(["model", "none: running means answer"]);
  $("model").replaceChildren(...rows.flatMap(([term, text]) => [node("dt", {}, term), node("dd", {}, text)]));
  $("model-note").textContent = report.model.last_error ? `Last training: ${report.model.last_error}` : "";
}

function tiers() {
  $("tiers").replaceChildren(...TIERS.map(([tier, name]) => node("div", { class: "tier" },
    node("span", {}, name),
    node("div", { class: "stack", role: "img", "aria-label": `weight ${percent(report.weights[tier])}` }, node("i", { class: tier, width: `${report.weights[tier] * 100}%` })),
    node("span", { class: "number" }, percent(report.weights[tier])),
    node("small", {}, report.skills[tier] == null ? "not measured" : `skill ${percent(report.skills[tier])}`))));
  $("gates").replaceChildren(...report.gates.map((gate) => node("tr", {},
    node("td", { class: "name" }, gate.route),
    node("td", { class: "number", title: "deviance of the route's mean that predictions take away" }, percent(gate.skill)),
    node("td", { class: gate.weight < 0.05 ? "number odd" : "number", title: gate.weight < 0.05 ? "the route's mean steers" : null }, percent(gate.weight)),
    node("td", { class: "number" }, time(gate.mean_us)))));
  const fallbacks = report.fallbacks.filter(([, number]) => number > 0);
  $("fallbacks").replaceChildren(...(fallbacks.length
    ? fallbacks.map(([reason, number]) => node("li", { class: "tag" }, `${REASONS[reason] ?? reason}: ${count(number)}`))
    : [node("li", { class: "quiet" }, "none")]));
}

/** What other policies would have made of the same requests. */
function shadows(shown) {
  const shadow = shown.shadow;
  const worth = shadow?.worth;
  const error = shown.shadow_error == null ? "" : ` The shadow of the policy in service is ${(shown.shadow_error * 100).toFixed(0)} % off what was measured.`;
  const thinned = shadow?.stride > 1 ? ` One slice of time in ${shadow.stride} is looked at.` : "";
  $("worth").textContent = !shadow ? "not looked at" : !worth ? "too few requests yet"
    : `Predictive over the best other: mean ${worth.mean.toFixed(2)}, p99 ${worth.p99.toFixed(2)}, slowdown ${worth.mean_slowdown.toFixed(2)}; below 1 is better.${error}${thinned}`;
  const rows = (shadow?.policies ?? []).map(({ policy, figures }) => [policy, figures]);
  if (rows.length && shadow.measured) rows.push(["really measured", shadow.measured]);
  $("shadows").replaceChildren(...rows.map(([name, figures]) => node("tr", {},
    node("td", { class: "name" }, name), node("td", { class: "number" }, time(figures.mean_s * 1e6)),
    node("td", { class: "number" }, time(figures.p99_s * 1e6)), node("td", { class: "number" }, figures.mean_slowdown.toFixed(2)))));
}

function instanceName(id) {
  for (const each of report.pools) {
    const found = each.instances.find((instance) => instance.id === id);
    if (found) return found.address ?? `#${id}`;
  }
  return `#${id}`;
}

function routing(shown) {
  const mine = report.routing_decisions.filter((decision) => decision.pool === shown.name).slice(0, ROUTING_ROWS);
  const body = $("routing");
  if (body.contains(document.activeElement) || body.matches(":hover")) return;
  // The measured cost may come after the decision.
  keyed(body, mine, (decision) => `${decision.id} ${decision.actual_work_us}`, (decision) => {
    const actual = decision.actual_class ?? decision.predicted.class;
    const missed = decision.actual_work_us != null
      && (decision.actual_work_us < decision.predicted.work_us.low || decision.actual_work_us > decision.predicted.work_us.high);
    return node("tr", {},
      node("td", {}, node("button", { type: "button", class: "link", onclick: () => detail("routing", decision.id) }, `#${decision.id}`)),
      node("td", {}, decision.route),
      node("td", {}, instanceName(decision.instance)),
      node("td", {}, REASONS[decision.reason] ?? decision.reason),
      node("td", { class: "number", title: `between ${time(decision.predicted.work_us.low)} and ${time(decision.predicted.work_us.high)}` }, time(decision.predicted.work_us.mean)),
      node("td", { class: missed ? "number odd" : "number", title: missed ? "outside the interval" : null }, time(decision.actual_work_us)),
      node("td", {}, node("i", { class: `dot ${actual}` }), actual),
      node("td", { class: decision.outcome === "ok" ? "" : "bad" }, decision.outcome.replaceAll("_", " ")));
  });
}

/** Requests that were not let in; nothing is shown of pools that let everybody in. */
function refused(shown) {
  const mine = report.refusals.filter((refusal) => refusal.pool === shown.name);
  $("refusals").hidden = mine.length === 0;
  const reasons = Object.entries(REFUSALS).map(([reason, words]) => [words, mine.filter((refusal) => refusal.reason === reason).length]);
  $("refused-reasons").replaceChildren(...reasons.filter(([, number]) => number > 0)
    .map(([words, number]) => node("li", { class: "tag" }, `${words}: ${count(number)} of the latest ${count(mine.length)}`)));
  $("refused").replaceChildren(...mine.slice(0, ROUTING_ROWS).map((refusal) => node("tr", {},
    node("td", {}, ago(refusal.at)),
    node("td", { class: "name" }, refusal.route),
    node("td", {}, REFUSALS[refusal.reason] ?? refusal.reason),
    node("td", { class: "number" }, time(refusal.work_us)),
    node("td", { class: "number" }, time(refusal.latency_us)),
    node("td", { class: "number" }, time(refusal.deadline_us)),
    node("td", {}, refusal.priority),
    node("td", { class: "number" }, count(refusal.in_flight)))));
}

async function detail(kind, id) {
  const answer = await fetch(`/api/v1/decisions/${id}?kind=${kind}`).then((response) => response.json()).catch((error) => ({ error: String(error) }));
  const decision = answer[kind];
  $("detail-title").textContent = `${kind === "routing" ? "Routing" : "Scaling"} decision #${id}`;
  const parts = decision ? (kind === "routing" ? routingDetail(decision) : scalingDetail(decision)) : [node("p", {}, answer.error ?? "forgotten")];
  if (decision) parts.push(node("details", {}, node("summary", {}, "All of it, as JSON"), node("pre", {}, JSON.stringify(decision, null, 2))));
  $("detail-body").replaceChildren(...parts);
  if (!$("detail").open) $("detail").showModal();
}

function list(rows) {
  return node("dl", { class: "card" }, ...rows.flatMap(([term, text]) => [node("dt", {}, term), node("dd", {}, text)]));
}

function routingDetail(decision) {
  const { work_us: work, basis } = decision.predicted;
  const candidates = decision.candidates.map((candidate) => node("tr", {},
    node("td", { class: "name" }, instanceName(candidate.instance), candidate.instance === decision.instance ? node("small", {}, "chosen") : null),
    node("td", { class: "number" }, time(candidate.score_us)), node("td", { class: "number" }, count(candidate.in_flight))));
  return [
    node("p", { class: "words" }, `${decision.route} → ${instanceName(decision.instance)}: ${REASONS[decision.reason] ?? decision.reason}`),
    list([["predicted work", `${time(work.mean)} (${time(work.low)} – ${time(work.high)}), ${decision.predicted.class}`], ["rests on", basis.replaceAll("_", " ")],
      ["steered with", `${time(decision.steered_us)}: predictions count ${percent(decision.weight)} on this route`],
      ["measured work", `${time(decision.actual_work_us)}${decision.actual_class ? `, ${decision.actual_class}` : ""}`],
      ["whole time at the instance", time(decision.upstream_us)], ["consumer", decision.consumer],
      ["numeric parameters", decision.numbers.join(", ") || "none"], ["table", decision.generation], ["outcome", decision.outcome.replaceAll("_", " ")]]),
    node("h3", {}, "Compared, best first (score for this request; smaller is better)"),
    node("table", {}, node("thead", {}, node("tr", {}, node("th", {}, "Instance"), node("th", { class: "number" }, "Score"), node("th", { class: "number" }, "In flight"))),
      node("tbody", {}, ...candidates)),
  ];
}

function scalingDetail({ plan, pool: name, mode, at, instances: touched }) {
  const forecast = plan.forecast ? `${plan.forecast.mean.toFixed(2)} (${plan.forecast.low.toFixed(2)} – ${plan.forecast.high.toFixed(2)})` : "none";
  return [
    node("p", { class: "words" }, plan.words),
    list([["pool", name], ["when", ago(at)], ["mode", mode], ["instances", `${plan.current}, wished ${plan.wish}, after limits ${plan.target}`],
      ["reason", plan.reason.replaceAll("_", " ")], ["limited by", plan.limited_by?.replaceAll("_", " ") ?? "nothing"],
      ["work arriving then", `${plan.work_rate.toFixed(2)} s/s, ${plan.request_rate.toFixed(1)} requests/s`], ["demand that sized it", `${plan.demand.toFixed(2)} s/s`],
      ["forecast", forecast], ["lead time", `${plan.lead_s.toFixed(1)} s`], ["capacity per instance", `${plan.capacity_per_instance.toFixed(2)} s/s`],
      ["started or drained", touched.map((id) => `#${id}`).join(", ") || "none"]]),
  ];
}

function connection(state, text) {
  if ($("connection").textContent === text) return;
  $("connection").className = `connection ${state}`;
  $("connection").textContent = text;
}

function listen() {
  const source = new EventSource("/api/v1/events");
  let heard = 0;
  source.addEventListener("report", (event) => {
    heard = Date.now();
    report = JSON.parse(event.data);
    connection("live", "live");
    // A hidden page need not draw.
    if (!document.hidden) render();
  });
  source.onerror = () => {
    connection("lost", "connection lost");
    // The browser reconnects by itself unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
  setInterval(() => { if (heard && source.readyState === EventSource.OPEN && Date.now() - heard > 10000) connection("waiting", "no news for 10 s"); }, 2000);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Continue" : "Pause";
});
$("close").addEventListener("click", () => $("detail").close());
$("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
addEventListener("resize", () => report && pool() && draw($("chart"), pool(), report.at));
document.addEventListener("visibilitychange", () => !document.hidden && report && render());
fetch("/api/v1/info").then((response) => response.json()).then((info) => { $("version").textContent = info.version; }).catch(() => {});
listen();
