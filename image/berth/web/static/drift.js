// The drift page: what labels have shown of a model, and its features, the most drifted first, each beside the sample
// that the model was added with.

import { binsOf, histogramPair, percent } from "./histogram.js";
import { find, keepFresh, make, readAll, setStatus } from "./page.js";
import { hasLabels, qualitySection } from "./quality.js";

const FEWEST_ROWS = 100;
const NO_PROFILE = "no profile: add the model with --sample";
const UNUSUAL = {
  missing: (count) => `${count} missing, where the sample had a value in every row`,
  below: (count) => `${count} far below the sample's range`,
  above: (count) => `${count} far above the sample's range`,
  unknown: (count) => `${count} of a category that the sample does not have`,
};
let models = [];
let chosen = "";

const keyOf = (model) => `${model.name}@${model.version}`;
const driftedOf = (report) => (report?.features ?? []).filter((feature) => feature.drifted);
const whole = (count) => new Intl.NumberFormat("en").format(count);

function binTable(feature) {
  const rows = binsOf(feature).map(({ label, expected, observed }) => make("tr", {},
    make("th", { scope: "row" }, label), make("td", {}, percent(expected)), make("td", {}, percent(observed))));
  const heads = ["Bin", "Sample", "Requests"].map((name) => make("th", { scope: "col" }, name));
  return make("details", { class: "more", "data-feature": feature.name },
    make("summary", {}, "All bins as a table"),
    make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, rows)));
}

/** The bin whose share grew the most, in words. */
function growth(feature) {
  if (feature.psi === null) return null;
  const bins = binsOf(feature);
  const most = bins.reduce((found, bin) => (bin.observed - bin.expected > found.observed - found.expected ? bin : found));
  return make("p", { class: "note" }, "Grew most: ", make("b", {}, most.label),
    `, from ${percent(most.expected)} of the sample to ${percent(most.observed)} of the requests.`);
}

function unusual(feature) {
  const found = Object.entries(feature.unusual);
  if (!found.length) return null;
  return make("p", { class: "unusual" }, make("b", {}, "Unusual values: "),
    `${found.map(([kind, count]) => UNUSUAL[kind]?.(whole(count)) ?? `${whole(count)} ${kind}`).join("; ")}.`);
}

function verdict(feature) {
  if (feature.psi === null) return make("p", { class: "verdict" }, "Not judged yet");
  const ratio = feature.psi / feature.threshold;
  const figures = `psi ${feature.psi.toFixed(3)}, threshold ${feature.threshold.toFixed(3)}`;
  return make("p", { class: "verdict" },
    make("b", {}, feature.drifted ? `Drifted: ${ratio.toFixed(1)} × its threshold` : "Like the sample"),
    make("span", { class: "figures" }, figures));
}

function featureCard(feature) {
  const output = feature.name === "prediction" ? make("span", { class: "kind" }, "what the model returns") : null;
  return make("li", { class: feature.drifted ? "feature drifted" : "feature" },
    make("div", { class: "line" }, make("h3", {}, feature.name, output ?? make("span", { class: "kind" }, feature.kind)),
      verdict(feature)),
    histogramPair(feature), growth(feature), unusual(feature), binTable(feature));
}

function notice(title, text) {
  return make("div", { class: "notice" }, make("strong", {}, title), text ? make("p", {}, text) : null);
}

function summary(report) {
  const drifted = driftedOf(report);
  const window = `${whole(report.rows)} rows in the last ${report.window_seconds / 60} minutes`;
  if (report.rows < FEWEST_ROWS) return notice(`Fewer than ${FEWEST_ROWS} rows`, `${window}: no figure yet.`);
  const names = drifted.map((feature) => feature.name).join(", ");
  return make("p", { class: "lead" }, `${window}, compared with the sample that the model was added with. `,
    drifted.length
      ? make("b", { class: "bad" }, `${drifted.length} of ${report.features.length} drifted: ${names}.`)
      : make("b", { class: "good" }, "Nothing drifted."));
}

function showModel(model) {
  const { report, quality } = model;
  const title = make("h1", {}, model.name, " ", make("span", { class: "version" }, `version ${model.version}`));
  const labelled = hasLabels(quality);
  const parts = report
    ? [summary(report), make("ol", { class: "features" }, report.features.map(featureCard))]
    : [notice("Nothing to compare with", model.reason)];
  if (labelled) parts.unshift(qualitySection(quality), make("h2", { class: "next" }, "Drift"));
  const open = [...document.querySelectorAll("details[open][data-feature]")].map((details) => details.dataset.feature);
  const focused = document.activeElement?.closest?.("details[data-feature]")?.dataset.feature;
  find("sheet").replaceChildren(title, ...parts);
  for (const details of document.querySelectorAll("details[data-feature]")) {
    details.open = open.includes(details.dataset.feature);
    if (details.dataset.feature === focused) details.querySelector("summary").focus();
  }
}

function stateOf({ report, quality }) {
  if (quality?.worse) return ["failed", "worse than its reference"];
  if (!report) return ["loading", "no profile"];
  if (report.rows < FEWEST_ROWS) return ["loading", `fewer than ${FEWEST_ROWS} rows`];
  const count = driftedOf(report).length;
  return count ? ["failed", `${count} drifted`] : ["ready", "nothing drifted"];
}

function listModels() {
  const focused = find("models").contains(document.activeElement);
  find("models").replaceChildren(...models.map((model) => {
    const choose = () => {
      chosen = keyOf(model);
      listModels();
      showModel(model);
    };
    const [state, text] = stateOf(model);
    return make("li", {}, make("button", { type: "button", "aria-current": keyOf(model) === chosen ? "true" : null, onclick: choose },
      make("span", { class: "name" }, model.name),
      make("span", { class: "version" }, make("span", { class: "hidden" }, "version "), model.version),
      make("span", { class: "state", "data-state": state }, text)));
  }));
  if (focused) find("models").querySelector("[aria-current]")?.focus();
}

function showStatus() {
  const drifted = models.filter(({ report }) => driftedOf(report).length).length;
  const judged = models.filter(({ report }) => report && report.rows >= FEWEST_ROWS).length;
  if (models.some(({ quality }) => quality?.worse)) setStatus("failed", "A model is worse than its reference");
  else if (drifted) setStatus("failed", drifted === 1 ? "A model has drifted" : `${drifted} models have drifted`);
  else if (judged) setStatus("ready", "Nothing drifted");
  else setStatus("loading", "No figures yet");
}

/** The models that the key may see, each with its report where it has one; undefined if a key is wanted. */
async function read() {
  const [info, quality, drift] = (await readAll(["info", "quality", "drift"], start)) ?? [];
  if (!info) return undefined;
  const byKey = (reports) => Object.fromEntries(reports.map((report) => [`${report.model}@${report.version}`, report]));
  const [reports, qualities] = [byKey(drift.json.models), byKey(quality.json.models)];
  return info.json.models.map((model) => ({
    name: model.name, version: model.version, report: reports[keyOf(model)], reason: drift.json.reason ?? NO_PROFILE,
    quality: qualities[keyOf(model)],
  }));
}

async function update() {
  const found = await read();
  if (!found) return false;
  models = found;
  const first = models.find(({ report }) => driftedOf(report).length) ?? models.find(({ report }) => report) ?? models[0];
  const shown = models.find((model) => keyOf(model) === chosen) ?? first;
  chosen = shown ? keyOf(shown) : "";
  listModels();
  showStatus();
  if (shown) showModel(shown);
  else find("sheet").replaceChildren(notice("No model is ready", "This page reads the report again in a few seconds."));
  return true;
}

const start = () => keepFresh(update);

start();
