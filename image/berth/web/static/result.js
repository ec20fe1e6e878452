// A response of /predict, laid out: the prediction large, probabilities as labelled bars.

import { make, reasonOf, spaced } from "./page.js";

const MOST_BARS = 12;
const PERCENT = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 7, useGrouping: false });

function word(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : NUMBER.format(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function bar({ label, share, first }) {
  const fill = make("span", { class: "fill" });
  fill.style.setProperty("--share", String(Math.max(0, Math.min(1, share ?? 0))));
  return make("li", { class: first ? "bar first" : "bar" },
    make("span", { class: "name" }, word(label)),
    make("span", { class: "percent" }, share === null ? "–" : PERCENT.format(share)),
    make("span", { class: "track", "aria-hidden": "true" }, fill));
}

function bars(labels, shares) {
  const highest = Math.max(...shares.map((share) => share ?? 0));
  let rows = labels.map((label, at) => ({ label, share: shares[at], first: shares[at] === highest }));
  const hidden = rows.length - MOST_BARS;
  if (hidden > 0) rows = rows.sort((one, other) => other.share - one.share).slice(0, MOST_BARS);
  return [
    make("h3", {}, "Probabilities"),
    make("ol", { class: "bars" }, rows.map(bar)),
    hidden > 0 ? make("p", { class: "note" }, `and ${hidden} less probable classes`) : null,
  ];
}

function isShares(spec, value) {
  return spec.labels !== undefined && spec.shape.length === 2 && Array.isArray(value?.[0]) && value[0].length === spec.labels.length;
}

function other(spec, value) {
  return [make("h3", {}, spec.name), make("pre", { tabindex: "0" }, spaced(value?.length === 1 ? value[0] : value))];
}

function meta(answer) {
  const id = answer.headers.get("X-Request-Id") ?? "–";
  return make("p", { class: "meta" }, `Status ${answer.status}, ${answer.ms.toFixed(1)} ms. Request `, make("code", {}, id));
}

/** The elements that show `answer`; the model's outputs say which list is which. */
export function showAnswer(model, answer) {
  if (answer.status !== 200 || answer.json === undefined) {
    return [
      make("div", { class: "notice bad", role: "alert" },
        make("strong", {}, answer.json?.code ?? `status ${answer.status}`), make("p", {}, reasonOf(answer))),
      meta(answer),
    ];
  }
  const values = answer.json.outputs ?? answer.json;
  const given = model.outputs.filter((spec) => spec.name in values);
  const parts = given.map((spec) => {
    const value = values[spec.name];
    if (isShares(spec, value)) return bars(spec.labels, value[0]);
    if (spec.name === "prediction" && value.length === 1) {
      return make("p", { class: "prediction" }, [value[0]].flat().map(word).join(", "));
    }
    return other(spec, value);
  });
  return [...parts.flat().filter(Boolean), meta(answer)];
}
