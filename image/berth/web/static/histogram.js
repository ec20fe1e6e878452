// A feature's bins as bars: the sample and the window on one scale, so that their heights can be compared.

import { draw, make } from "./page.js";

const HEIGHT = 112;
const TOP = 16;
const MOST_NAMED = 6;
const SCALES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1];
const PERCENT = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const percent = (share) => FINE.format(share);

/** The bins that are drawn, each with its shares of the sample and of the window; `missing` and `other` where used. */
export function binsOf(feature) {
  const total = (counts) => counts.reduce((sum, count) => sum + count, 0) || 1;
  const [sample, rows] = [total(feature.expected), total(feature.observed)];
  const spare = feature.kind === "categorical" ? 2 : 1;
  return feature.labels
    .map((label, at) => ({ label, expected: feature.expected[at] / sample, observed: feature.observed[at] / rows }))
    .filter(({ expected, observed }, at) => at < feature.labels.length - spare || expected || observed);
}

function bars(bins, side, scale) {
  const step = 100 / bins.length;
  return bins.map((bin, at) => {
    const height = Math.max((bin[side] / scale) * (HEIGHT - TOP), bin[side] ? 1 : 0);
    const title = draw("title", {});
    title.textContent = `${bin.label}: ${percent(bin[side])}`;
    return draw("rect", {
      x: `${at * step + step * 0.08}%`, width: `${step * 0.84}%`, y: HEIGHT - height, height,
    }, title);
  });
}

function axis(bins) {
  const named = bins.length <= MOST_NAMED ? bins : [bins[0], bins.at(-1)];
  return make("div", { class: named === bins ? "axis each" : "axis", "aria-hidden": "true" },
    named.map(({ label }) => make("span", { title: label }, label)));
}

function histogram(bins, side, name, scale) {
  const fullest = bins.reduce((most, bin) => (bin[side] > most[side] ? bin : most));
  const label = fullest[side] ? `${name}: most values in ${fullest.label}, ${percent(fullest[side])}` : `${name}: no values`;
  const text = draw("text", { x: 0, y: 11 });
  text.textContent = PERCENT.format(scale);
  return make("figure", { class: `histogram ${side}` },
    make("figcaption", {}, name),
    draw("svg", { role: "img", "aria-label": label, width: "100%", height: HEIGHT },
      text,
      draw("line", { x1: 0, x2: "100%", y1: TOP, y2: TOP }),
      draw("line", { x1: 0, x2: "100%", y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
      ...bars(bins, side, scale)),
    axis(bins));
}

/** The sample's histogram and the window's, side by side. */
export function histogramPair(feature) {
  const bins = binsOf(feature);
  const highest = Math.max(...bins.flatMap(({ expected, observed }) => [expected, observed]));
  const scale = SCALES.find((candidate) => candidate >= highest) ?? 1;
  return make("div", { class: "pair" },
    histogram(bins, "expected", "Sample", scale), histogram(bins, "observed", "Requests", scale));
}
