// What labels have shown of a model: accuracy and its interval beside the reference, confused classes, errors, reward.

import { percent } from "./histogram.js";
import { draw, make } from "./page.js";

const HEIGHT = 44;
const MIDDLE = 22;
const MOST_BARS = 12;
const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const DURATIONS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const whole = (count) => new Intl.NumberFormat("en").format(count);
const number = (value) => NUMBER.format(value);

function duration(seconds) {
  const [unit, length] = DURATIONS.find(([, size]) => seconds >= size) ?? DURATIONS.at(-1);
  const count = Math.round(seconds / length);
  return `${whole(count)} ${unit}${count === 1 ? "" : "s"}`;
}

/** The figure as a point on its 95 % interval, with a tick at the reference; `most` is the right end of the scale. */
function intervalPicture(figure, reference, most, show) {
  const at = (value) => `${(Math.max(0, Math.min(value, most)) / most) * 100}%`;
  const known = figure.low !== null && figure.high !== null;
  const parts = [draw("line", { class: "scale", x1: 0, x2: "100%", y1: MIDDLE, y2: MIDDLE })];
  if (known) parts.push(draw("line", { class: "range", x1: at(figure.low), x2: at(figure.high), y1: MIDDLE, y2: MIDDLE }));
  if (reference !== undefined) {
    parts.push(draw("line", { class: "reference", x1: at(reference), x2: at(reference), y1: 6, y2: HEIGHT - 6 }));
  }
  parts.push(draw("circle", { class: "point", cx: at(figure.value), cy: MIDDLE, r: 6 }));
  const range = known ? `, 95% interval ${show(figure.low)} to ${show(figure.high)}` : "";
  const beside = reference === undefined ? "" : `; the version was added with ${show(reference)}`;
  const picture = draw("svg", { role: "img", "aria-label": `${show(figure.value)}${range}${beside}`, width: "100%", height: HEIGHT });
  picture.append(...parts);
  return make("figure", { class: "interval" }, picture,
    make("div", { class: "axis", "aria-hidden": "true" }, make("span", {}, show(0)), make("span", {}, show(most))));
}

function figureRow(name, figure, reference, most, show) {
  const range = figure.low === null || figure.high === null ? "" : ` (${show(figure.low)} to ${show(figure.high)})`;
  return make("div", { class: "measure" },
    make("p", { class: "line" }, make("b", {}, name), make("span", { class: "large" }, show(figure.value)),
      make("span", { class: "figures" }, `${range}${reference === undefined ? "" : `, reference ${show(reference)}`}`)),
    intervalPicture(figure, reference, most, show));
}

/** Rows of the true classes, columns of the predicted ones; the darker a cell, the more of the row is in it. */
function confusionTable(confusion) {
  const names = [...new Set(confusion.flatMap(({ predicted, truth }) => [predicted, truth]))];
  const order = new Intl.Collator("en", { numeric: true }).compare;
  names.sort((one, other) => (one === "other") - (other === "other") || order(one, other));
  const counts = new Map(confusion.map(({ predicted, truth, rows }) => [`${truth}\n${predicted}`, rows]));
  const cellOf = (truth, predicted, total) => {
    const rows = counts.get(`${truth}\n${predicted}`) ?? 0;
    const cell = make("td", { class: truth === predicted ? "cell right" : "cell wrong" }, rows ? whole(rows) : "·");
    cell.style.setProperty("--share", String(total ? rows / total : 0));
    return cell;
  };
  const rows = names.map((truth) => {
    const total = names.reduce((sum, predicted) => sum + (counts.get(`${truth}\n${predicted}`) ?? 0), 0);
    return make("tr", {}, make("th", { scope: "row" }, truth), names.map((predicted) => cellOf(truth, predicted, total)));
  });
  return [
    make("h3", {}, "Predicted (columns) and true (rows) classes"),
    make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
      make("table", { class: "confusion" },
        make("thead", {}, make("tr", {}, make("td", {}), names.map((name) => make("th", { scope: "col" }, name)))),
        make("tbody", {}, rows))),
  ];
}

function errorBar(label, rows, total) {
  const fill = make("span", { class: "fill" });
  fill.style.setProperty("--share", String(rows / total));
  return make("li", { class: "bar" }, make("span", { class: "name" }, label), make("span", {}, percent(rows / total)),
    make("span", { class: "track", "aria-hidden": "true" }, fill));
}

/** How many rows were off by how much; the counts come as "up to so much". */
function errorBars(errors, total) {
  const bins = errors.map(({ up_to: bound, rows }, at) => ({ bound, last: errors[at - 1]?.up_to, rows: rows - (errors[at - 1]?.rows ?? 0) }));
  const used = bins.filter(({ rows }) => rows);
  const named = ({ bound, last }) => (bound === null ? `above ${number(last)}` : last === undefined ? "none" : `${number(last)} to ${number(bound)}`);
  return [make("h3", {}, "Size of the error"),
    make("ol", { class: "bars" }, used.slice(0, MOST_BARS).map((bin) => errorBar(named(bin), bin.rows, total)))];
}

function verdict(report) {
  if (!Object.keys(report.reference).length) {
    return make("p", { class: "note" }, "No reference: add the version with ", make("code", {}, "--metadata 'metrics={\"accuracy\": 0.93}'"), ".");
  }
  if (report.worse === null) return make("p", { class: "note" }, "Fewer than 200 labels: no verdict yet.");
  return report.worse
    ? make("p", {}, make("b", { class: "bad" }, "Worse than when it was added."))
    : make("p", {}, make("b", { class: "good" }, "Not worse than when it was added."));
}

/** Whether there is anything to show. */
export const hasLabels = (report) => Boolean(report && (report.labels || report.reward_rows));

/** The section of a model that has labels. */
export function qualitySection(report) {
  const delay = report.delay_seconds === null ? "" : `, on average ${duration(report.delay_seconds)} after the prediction`;
  const labels = report.labels ? `${whole(report.labels)} labels since the server started${delay}.` : "";
  const { accuracy, mae, reference } = report;
  const parts = [make("h2", {}, "What came true"), make("p", { class: "note" }, labels)];
  if (report.labels) parts.push(verdict(report));
  if (accuracy) {
    parts.push(figureRow("Accuracy", accuracy, reference.accuracy, 1, percent));
    parts.push(...confusionTable(report.confusion));
  }
  if (mae) {
    const most = Math.max(mae.high ?? mae.value, reference.mae ?? 0) * 1.25 || 1;
    parts.push(figureRow("Mean absolute error", mae, reference.mae, most, number));
    parts.push(make("p", { class: "note" }, `Root mean square error ${number(report.rmse)}.`));
    parts.push(...errorBars(report.errors, report.error_rows));
  }
  if (report.reward !== null) {
    parts.push(make("p", { class: "note" }, `Mean reward ${number(report.reward)} of ${whole(report.reward_rows)} predictions.`));
  }
  return make("section", { class: report.worse ? "quality worse" : "quality", "aria-label": "What came true" }, parts);
}
