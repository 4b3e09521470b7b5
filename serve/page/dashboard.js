// The dashboard: asks for the figures every few seconds, and shows them. The service keeps the history.

import { ApiError, askForKey, call } from "./api.js";
import { LinePlot, ScatterPlot, element, number, table } from "./plot.js";

const REFRESH_MS = 3000;
const QUALITY_EVERY = 5;
const TILE_S = 60;
const $ = (id) => document.getElementById(id);

const OF_POOLS = ["queue_items", "num_serving", "busy_share"];
const plots = {
  segments_per_s: new LinePlot($("segments"), "Throughput", "segments/s"),
  realtime: new LinePlot($("realtime"), "Media dubbed a second, all dubs together", "s"),
  queue_items: new LinePlot($("queues"), "Requests waiting, by pool", ""),
  num_serving: new LinePlot($("replicas"), "Replicas ready, of those wanted (dashed)", ""),
  busy_share: new LinePlot($("busy"), "Busy share of the replicas", "%", { top: 100 }),
  lag_s: new LinePlot($("lag"), "Lag: media heard but not mixed yet", "s"),
  dubs: new LinePlot($("dubs-plot"), "Dubs", ""),
  cost_per_hour: new LinePlot($("cost"), "Cost an hour", ""),
};
const scatter = new ScatterPlot($("scatter"), "Quality against speed");

let history = null;
let round = 0;

async function refresh() {
  if (!document.hidden) {
    try {
      const query = history ? `?of=${history.dispatcher}&after=${history.series.time_s.at(-1) ?? 0}` : "";
      show(await call("GET", `v1/dashboard${query}`));
      showDubs((await call("GET", "v1/dubs?state=running&state=queued&limit=50")).dubs);
      if (round++ % QUALITY_EVERY === 0) await showQuality();
      tell("");
    } catch (error) {
      if (error.status === 401) await askForKey();
      else tell(error instanceof ApiError ? error.message : "the service cannot be reached");
    }
  }
  setTimeout(refresh, REFRESH_MS);
}

function tell(trouble) {
  $("health").textContent = trouble;
  $("health").classList.toggle("error", trouble !== "");
}

// --- the service

function show(answer) {
  if (history && history.dispatcher === answer.dispatcher) append(history.series, answer.series, answer.max_samples);
  else history = { dispatcher: answer.dispatcher, series: answer.series };
  const { series } = history;
  for (const name of ["segments_per_s", "realtime", "lag_s"]) {
    plots[name].draw(series.time_s, [{ name: "all dubs", values: series[name] }]);
  }
  plots.dubs.draw(series.time_s, [
    { name: "running here", values: series.num_running },
    { name: "waiting for any dispatcher", values: series.num_waiting },
  ]);
  for (const name of OF_POOLS) drawPools(plots[name], series, name);
  showCost(answer, series);
  showTiles(answer, series);
  showKpis(answer.kpis);
  showPools(answer.pools);
  const since = new Date(1000 * answer.started_s).toLocaleString();
  $("about").textContent =
    `Figures are of one dispatcher since ${since}, over all keys. Dubs, also those of quality against speed, are yours.`;
}

// Add the newer samples, and drop the oldest.
function append(series, more, maxSamples) {
  const before = series.time_s.length;
  const added = more.time_s.length;
  const cut = (values) => values.slice(-maxSamples);
  for (const name of new Set([...Object.keys(series.pools), ...Object.keys(more.pools)])) {
    const [old, late] = [series.pools[name], more.pools[name]];
    series.pools[name] = Object.fromEntries(
      Object.keys(old ?? late).map((field) => {
        const [first, second] = [old?.[field] ?? Array(before).fill(null), late?.[field] ?? Array(added).fill(null)];
        return [field, cut([...first, ...second])];
      }),
    );
  }
  for (const name of Object.keys(series)) {
    if (name !== "pools") series[name] = cut([...series[name], ...more[name]]);
  }
}

function drawPools(plot, series, name) {
  const lines = Object.entries(series.pools).flatMap(([pool, fields]) => {
    const values = name === "busy_share" ? fields[name].map((each) => each === null ? null : 100 * each) : fields[name];
    const line = { name: pool, values };
    return name === "num_serving" ? [line, { name: `${pool} wanted`, values: fields.target, kind: "target" }] : [line];
  });
  plot.draw(series.time_s, lines);
}

function showCost(answer, series) {
  $("cost").hidden = !answer.is_priced;
  plots.cost_per_hour.unit = answer.currency;
  if (answer.is_priced) plots.cost_per_hour.draw(series.time_s, [{ name: "engines", values: series.cost_per_hour }]);
}

function lately(series, name) {
  const since = (series.time_s.at(-1) ?? 0) - TILE_S;
  const values = series[name].filter((_, at) => series.time_s[at] > since);
  return values.length ? values.reduce((sum, each) => sum + each, 0) / values.length : null;
}

function showTiles(answer, series) {
  const tiles = [
    ["segments/s", number(lately(series, "segments_per_s")), "mean of the last minute"],
    ["× realtime", number(lately(series, "realtime")), "mean of the last minute"],
    ["dubs running", number(series.num_running.at(-1)), `${number(series.num_waiting.at(-1))} waiting`],
    ["lag", number(series.lag_s.at(-1), "s"), "of the dub furthest behind"],
    answer.is_priced
      ? ["cost an hour", number(lately(series, "cost_per_hour"), answer.currency), "mean of the last minute"]
      : ["cost an hour", "–", "no prices are set"],
  ];
  $("tiles").replaceChildren(
    ...tiles.map(([name, value, note]) => {
      const tile = element("div");
      tile.append(element("dt", "", name), element("dd", "value", value), element("dd", "quiet", note));
      return tile;
    }),
  );
}

function showKpis(kpis) {
  const rows = kpis.map((kpi) => [
    kpi.name,
    `${kpi.bound} ${kpi.target} ${kpi.unit}`,
    number(kpi.measured, kpi.unit),
    element("span", `badge ${kpi.verdict.replace(" ", "-")}`, kpi.verdict),
    element("span", "quiet", kpi.why),
  ]);
  $("kpis").replaceChildren(table("Since the dispatcher started", ["figure", "target", "measured", "", ""], rows));
}

function showPools(pools) {
  const rows = pools.map((pool) => [
    pool.name,
    `${pool.num_serving} of ${pool.target}`,
    number(pool.num_loading + pool.num_pending),
    number(pool.queue_items),
    number(pool.oldest_wait_s, "s"),
    number(pool.num_items),
    number(pool.num_failed),
    number(pool.num_lost_replicas),
    element("span", "quiet", pool.waiting ?? ""),
  ]);
  const heads = ["pool", "ready", "starting", "waiting", "oldest", "done", "failed", "replicas lost", ""];
  $("pool-table").replaceChildren(table("Now", heads, rows));
}

// --- your dubs

function showDubs(dubs) {
  $("no-dubs").hidden = dubs.length > 0;
  const rows = dubs.map((dub) => {
    const shares = Object.values(dub.progress.stages?.mix ?? {});
    const share = shares.length ? Math.min(...shares) : 0;
    const bar = Object.assign(element("progress"), { max: 1, value: share });
    bar.setAttribute("aria-label", `mixed, ${dub.name}`);
    const link = Object.assign(element("a", "", dub.name), { href: `./#${dub.id}` });
    const since = number(Date.now() / 1000 - dub.created_s, "s");
    return [link, dub.targets.map((target) => target.language).join(", "), dub.state, bar, since];
  });
  const heads = ["dub", "into", "state", "mixed", "since"];
  $("running").replaceChildren(...(dubs.length ? [table("Newest first", heads, rows)] : []));
}

async function showQuality() {
  const measure = $("measure").value || "good_lines";
  const answer = await call("GET", `v1/dashboard/quality?measure=${measure}`);
  const options = answer.measures.length ? answer.measures : [answer.measure];
  if (options.join() !== [...$("measure").options].map((option) => option.value).join()) {
    $("measure").replaceChildren(...options.map((name) => new Option(name.replace("_", " "), name)));
    $("measure").value = answer.measure;
  }
  const points = answer.dubs.map((dub) => ({ name: dub.name, x: dub.realtime, y: dub.quality }));
  const label = `${answer.measure.replace("_", " ")} (${answer.more_is_better ? "more" : "less"} is better)`;
  const text = correlationText(answer);
  $("correlation").textContent = text;
  scatter.draw(points, ["× realtime", label], text);
}

function correlationText(answer) {
  const what = `${answer.meaning}; ${answer.dubs.length} dubs. `;
  const found = answer.correlation;
  if (!found) return `${what}No correlation: ${answer.why}.`;
  const interval =
    found.low === null ? "" : `, ${100 * found.confidence} % interval ${number(found.low)} to ${number(found.high)}`;
  return `${what}Spearman's ρ with × realtime is ${number(found.value)}${interval}.`;
}

$("measure").addEventListener("change", () => showQuality().catch(() => {}));
refresh();
