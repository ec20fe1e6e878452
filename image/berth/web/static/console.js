// The start page: which models there are, one of them to try, and what it predicts.

import { curlCommand, makeFields } from "./form.js";
import { ask, askForKey, find, hasKey, keyAccepted, make, reasonOf, setStatus, showSlot } from "./page.js";
import { showAnswer } from "./result.js";

const POLL_MS = 1500;
const MOST_TENSORS = 4;
let states = {};
let known = {};
let chosen = "";

const keyOf = (model) => `${model.name}@${model.version}`;

function tensor(spec) {
  const size = spec.shape.map((length) => (length < 0 ? "n" : length)).join(" × ");
  return make("li", {}, make("code", {}, spec.name), ` ${spec.datatype} `, make("span", { class: "shape" }, size));
}

function tensors(specs) {
  const left = specs.length - MOST_TENSORS;
  const rows = specs.slice(0, left === 1 ? specs.length : MOST_TENSORS).map(tensor);
  return make("ul", {}, rows, left > 1 ? make("li", {}, `and ${left} more`) : null);
}

function facts(model) {
  const rows = [
    ["Format", model.format + (model.accelerated ? ", accelerated" : "")],
    ["SHA-256", make("code", { title: model.sha256 }, model.sha256.slice(0, 12))],
    ["Inputs", tensors(model.inputs)],
    ["Outputs", tensors(model.outputs)],
  ];
  return make("dl", { class: "facts" }, rows.map(([term, told]) => make("div", {}, make("dt", {}, term), make("dd", {}, told))));
}

function title(name) {
  const [word, version] = [name.slice(0, name.lastIndexOf("@")), name.slice(name.lastIndexOf("@") + 1)];
  return make("h1", {}, word, " ", make("span", { class: "version" }, `version ${version}`));
}

async function predict(event, model, fields) {
  event.preventDefault();
  const result = find("result");
  find("answer").hidden = false;
  let body;
  try {
    body = requestBody(model, fields);
  } catch (error) {
    result.replaceChildren(make("div", { class: "notice bad", role: "alert" }, make("p", {}, error.message)));
    return;
  }
  find("curl").textContent = curlCommand(body, hasKey());
  try {
    const answer = await ask("predict", {
      method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
    });
    if (answer.status === 401) askForKey(answer, () => event.target.requestSubmit());
    else if (hasKey()) keyAccepted();
    result.replaceChildren(...showAnswer(model, answer));
  } catch {
    result.replaceChildren(make("div", { class: "notice bad", role: "alert" }, make("p", {}, "The server does not respond.")));
  }
}

function requestBody(model, fields) {
  const outputs = model.outputs.map((spec) => spec.name);
  return { model: model.name, version: model.version, ...fields.read(), outputs };
}

function showModel(model) {
  const fields = makeFields(model);
  const form = make("form", { onsubmit: (event) => predict(event, model, fields) },
    make("h2", {}, "Features"), fields.element,
    make("div", { class: "go" }, make("button", { type: "submit" }, "Predict")));
  find("sheet").replaceChildren(title(keyOf(model)), facts(model), form);
  find("result").replaceChildren(make("p", { class: "note" }, "Press Predict to send these values to the model."));
  find("curl").textContent = curlCommand(requestBody(model, fields), hasKey());
  form.addEventListener("input", () => {
    try {
      find("curl").textContent = curlCommand(requestBody(model, fields), hasKey());
    } catch {
      // Not a request yet; Predict says why.
    }
  });
  find("answer").hidden = false;
}

function showState(name) {
  const { state, reason } = states[name] ?? { state: "loading" };
  const told = {
    loading: ["Loading", "The model is being verified and warmed up. This page waits for it."],
    failed: ["This model could not be loaded", reason],
    ready: ["Ready", "Enter a key to see its inputs and to send a request."],
  }[state];
  find("answer").hidden = true;
  find("sheet").replaceChildren(title(name),
    make("div", { class: state === "failed" ? "notice bad" : "notice" }, make("strong", {}, told[0]), make("p", {}, told[1])));
}

function showChosen() {
  if (states[chosen]?.state === "ready" && known[chosen]) showModel(known[chosen]);
  else showState(chosen);
}

function listModels() {
  const rows = Object.entries(states).map(([name, { state }]) => {
    const choose = () => {
      chosen = name;
      listModels();
      showChosen();
      find("models").querySelector("[aria-current]").focus();
    };
    const button = make("button", { type: "button", "aria-current": name === chosen ? "true" : null, onclick: choose },
      make("span", { class: "name" }, name.slice(0, name.lastIndexOf("@"))),
      make("span", { class: "version" }, make("span", { class: "hidden" }, "version "), name.slice(name.lastIndexOf("@") + 1)),
      state === "ready" ? null : make("span", { class: "state", "data-state": state }, state));
    return make("li", {}, button);
  });
  find("models").replaceChildren(...rows);
}

async function readHealth() {
  const answer = await ask("health");
  showSlot(answer);
  states = answer.json?.models ?? {};
  const all = Object.values(states);
  const count = (wanted) => all.filter(({ state }) => state === wanted).length;
  if (answer.status === 200) setStatus("ready", all.length < 2 ? "Ready" : `Ready, ${all.length} models`);
  else if (count("failed")) setStatus("failed", count("failed") === 1 ? "A model has failed" : `${count("failed")} models have failed`);
  else if (count("loading")) setStatus("loading", `Loading, ${count("ready")} of ${all.length} models are ready`);
  else setStatus("loading", reasonOf(answer));
  // Where keys are on, no model is named to a page that has none yet.
  return all.some(({ state }) => state === "loading") || (!all.length && answer.status !== 200);
}

async function readModels() {
  const answer = await ask("info");
  if (answer.status === 401) {
    askForKey(answer, start);
    return;
  }
  if (hasKey()) keyAccepted();
  known = Object.fromEntries((answer.json?.models ?? []).map((model) => [keyOf(model), model]));
}

/** Fetch, show, and fetch again for as long as something is loading; what was typed is left alone. */
async function start() {
  try {
    const before = chosen && states[chosen]?.state === "ready" && known[chosen];
    const loading = await readHealth();
    await readModels();
    chosen = chosen || (Object.keys(states)[0] ?? "");
    listModels();
    if (chosen && !before) showChosen();
    if (loading) setTimeout(start, POLL_MS);
  } catch {
    setStatus("failed", "The server does not respond");
    setTimeout(start, POLL_MS * 2);
  }
}

async function copy() {
  await navigator.clipboard.writeText(find("curl").textContent);
  find("copy").textContent = "Copied";
  setTimeout(() => (find("copy").textContent = "Copy"), POLL_MS);
}

find("copy").hidden = !navigator.clipboard; // only on https and localhost
find("copy").addEventListener("click", copy);
start();
