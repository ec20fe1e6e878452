// The experiments page: arms with their shares, the mean reward of each with its interval as a picture, and the verdict.

import { draw, find, keepFresh, make, readAll, setStatus } from "./page.js";

const WIDTH = 320;
const HEIGHT = 28;
const STATES = { good: "ready", stop: "failed", undecided: "loading" };
let experiments = [];
let chosen = "";

const whole = (count) => new Intl.NumberFormat("en").format(Math.round(count));
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const figure = (value) => (value === null ? "–" : value.toPrecision(3));

/** The scale that all arms of an experiment share: from the lowest end of an interval to the highest. */
function scaleOf(arms) {
  const ends = arms.flatMap((arm) => arm.interval ?? []);
  const low = Math.min(...ends);
  const high = Math.max(...ends);
  return (value) => 8 + ((WIDTH - 16) * (value - low)) / (high - low || 1);
}

/** An interval as a line with a dot for the mean, and its ends in figures. */
function picture(arm, scale) {
  if (!arm.interval) return "not enough rewards";
  const [low, high] = arm.interval.map(scale);
  const ends = arm.interval.map(figure);
  const words = `mean ${figure(arm.mean_reward)}, between ${ends[0]} and ${ends[1]}`;
  const middle = HEIGHT / 2;
  return make("figure", { class: "interval" },
    draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words },
      draw("line", { class: "scale", x1: 0, x2: WIDTH, y1: middle, y2: middle }),
      draw("line", { class: "range", x1: low, x2: high, y1: middle, y2: middle }),
      draw("circle", { class: "point", cx: scale(arm.mean_reward), cy: middle, r: 6 })),
    make("figcaption", {}, `${ends[0]} to ${ends[1]}`));
}

/** The cells of an arm by their headings, which narrow windows show beside each. */
function cells(arm, scale) {
  return {
    Share: percent(arm.share), Units: whole(arm.units), Failed: whole(arm.failed),
    p99: arm.p99_seconds === null ? "–" : `${arm.p99_seconds * 1000} ms`,
    Rewards: whole(arm.rewards), "Mean reward": figure(arm.mean_reward), "95 % interval": picture(arm, scale),
  };
}

function armTable(report) {
  const scale = scaleOf(report.arms);
  const rows = report.arms.map((arm) => [arm.arm, Object.entries(cells(arm, scale))]);
  const heads = ["Arm", ...rows[0][1].map(([name]) => name)];
  return make("table", { class: "arms" },
    make("thead", {}, make("tr", {}, heads.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map(([arm, listed]) => make("tr", {},
      make("th", { scope: "row" }, arm), listed.map(([name, cell]) => make("td", { "data-name": name }, cell))))));
}

function splitLine(report) {
  if (report.policy !== "fixed") return null;
  if (report.split_p === null) return make("p", { class: "note" }, "Split: more units than can be counted.");
  const broken = report.split_p < 0.001;
  return make("p", { class: "note" }, "Split: ", make("b", { class: broken ? "bad" : "good" },
    broken ? "not what the file says" : "as the file says"), ` (p = ${report.split_p.toPrecision(2)}).`);
}

function shadowLine(report) {
  const { shadow } = report;
  if (!shadow) return null;
  const counts = ["agree", "differ", "failed", "dropped"].map((word) => `${whole(shadow[word])} ${word}`).join(", ");
  const share = shadow.agreement === null ? "no figure yet" : `${percent(shadow.agreement)} agree`;
  return make("p", { class: "note" }, "Shadow ", make("b", {}, shadow.model), `: ${share} (${counts}).`);
}

function notice(title, text) {
  return make("div", { class: "notice" }, make("strong", {}, title), text ? make("p", {}, text) : null);
}

function show(report) {
  const title = make("h1", {}, report.name, " ", make("span", { class: "version" }, `${report.policy}, on ${report.model}`));
  const word = { good: "good", stop: "bad" }[report.verdict];
  const sentence = make("p", { class: "lead", id: "verdict" }, make("b", word ? { class: word } : {}, report.sentence));
  const parts = report.arms.length ? [armTable(report), splitLine(report)] : [];
  find("sheet").replaceChildren(...[title, sentence, ...parts, shadowLine(report)].filter((part) => part));
}

function list() {
  const focused = find("experiments").contains(document.activeElement);
  find("experiments").replaceChildren(...experiments.map((report) => {
    const choose = () => {
      chosen = report.name;
      list();
      show(report);
    };
    return make("li", {}, make("button", { type: "button", "aria-current": report.name === chosen ? "true" : null, onclick: choose },
      make("span", { class: "name" }, report.name),
      make("span", { class: "state", "data-state": STATES[report.verdict] }, report.arms.length ? report.verdict : "shadow")));
  }));
  if (focused) find("experiments").querySelector("[aria-current]")?.focus();
}

async function update() {
  const [answer] = (await readAll(["experiments"], start)) ?? [];
  if (!answer) return false;
  experiments = answer.json.experiments;
  if (!experiments.length) {
    find("sheet").replaceChildren(notice("No experiment runs", answer.json.reason ?? "The experiment file has none."));
    setStatus("loading", "No experiment runs");
    return true;
  }
  const shown = experiments.find(({ name }) => name === chosen) ?? experiments[0];
  chosen = shown.name;
  list();
  show(shown);
  const stopped = experiments.some(({ verdict }) => verdict === "stop");
  setStatus(stopped ? "failed" : "ready", stopped ? "An experiment must stop" : "Experiments run");
  return true;
}

const start = () => keepFresh(update);

start();
