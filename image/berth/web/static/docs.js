// The OpenAPI document as something to read, each route with a form that sends it.

import { ask, askForKey, find, hasKey, keyAccepted, make, reasonOf, setStatus, showSlot } from "./page.js";

let doc = {};
let fields = 0;

const freshId = () => `try-${(fields += 1)}`;
const pretty = (value) => JSON.stringify(value, null, 2);

function resolve(item) {
  return item?.$ref ? item.$ref.slice(2).split("/").reduce((found, step) => found[step], doc) : item;
}

/** JSON in which every reference to a schema is a link to it. */
function schemaText(schema) {
  const pieces = pretty(schema).split(/("#\/components\/schemas\/[^"]+")/);
  const linked = pieces.map((piece, at) => {
    if (at % 2 === 0) return piece;
    const name = piece.slice(1, -1).split("/").at(-1);
    return make("a", { href: `#schema-${name}` }, name);
  });
  return make("pre", { tabindex: "0" }, linked);
}

function more(summary, ...children) {
  return make("details", { class: "more" }, make("summary", {}, summary), children);
}

function valueField(parameter) {
  const id = freshId();
  const values = parameter.schema?.enum;
  const input = values
    ? make("select", { id }, values.map((value) => make("option", {}, value)))
    : make("input", { id, type: "text", autocomplete: "off", spellcheck: "false" });
  const note = parameter.description ? make("span", { class: "note" }, parameter.description) : null;
  const element = make("div", { class: "field" }, make("label", { for: id }, parameter.name, " ", make("small", {}, parameter.in)), input, note);
  return { parameter, input, element };
}

/** The body and its examples; `onPick` hears the name of the one that was picked. */
function bodyField(content, onPick) {
  const offered = Object.entries(content).flatMap(([type, { examples }]) =>
    Object.entries(examples ?? {}).map(([name, { value }]) => ({ type, name, value })));
  const json = content["application/json"] && !offered.length ? [{ type: "application/json", name: "empty", value: {} }] : [];
  const all = [...offered, ...json];
  const [pick, area] = [freshId(), freshId()];
  const select = make("select", { id: pick }, all.map(({ type, name }) => make("option", {}, `${name} (${type})`)));
  const text = make("textarea", { id: area, rows: "8", spellcheck: "false" });
  const fill = () => {
    const { value, name } = all[select.selectedIndex];
    text.value = typeof value === "string" ? value : pretty(value);
    text.rows = Math.min(18, Math.max(3, text.value.split("\n").length));
    onPick(name);
  };
  select.addEventListener("change", fill);
  fill();
  const element = make("div", { class: "body" },
    make("div", { class: "field" }, make("label", { for: pick }, "Example"), select),
    make("label", { for: area }, "Body"), text);
  return { element, read: () => ({ type: all[select.selectedIndex].type, text: text.value }) };
}

function showResponse(place, answer) {
  const shown = answer.json === undefined ? answer.text : pretty(answer.json);
  const most = 20000;
  place.replaceChildren(
    make("p", { class: answer.status < 400 ? "meta good" : "meta bad" },
      `Status ${answer.status}, ${answer.ms.toFixed(1)} ms`),
    make("pre", { tabindex: "0" }, shown.length > most ? `${shown.slice(0, most)}\n…` : shown));
}

async function send(method, path, inputs, body, place, again) {
  let filled = path.slice(1);
  const headers = {};
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) headers[parameter.name] = input.value;
  }
  const sent = body?.read();
  if (sent) headers["Content-Type"] = sent.type;
  try {
    const answer = await ask(filled || "./", { method: method.toUpperCase(), body: sent?.text, headers });
    if (answer.status === 401) askForKey(answer, again);
    else if (hasKey()) keyAccepted();
    showResponse(place, answer);
  } catch {
    place.replaceChildren(make("p", { class: "meta bad" }, "The server does not respond."));
  }
}

/** Point the path at the model whose example was picked. */
function pickPath(inputs, name) {
  const at = name.lastIndexOf("@");
  const wanted = { model: name.slice(0, at), version: name.slice(at + 1) };
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path" && at > 0) input.value = wanted[parameter.name];
  }
}

function tryForm(method, path, operation) {
  const inputs = (operation.parameters ?? []).map(resolve).map(valueField);
  const body = operation.requestBody ? bodyField(operation.requestBody.content, (name) => pickPath(inputs, name)) : null;
  const place = make("div", { "aria-live": "polite" });
  const form = make("form", {
    class: "try",
    onsubmit: (event) => {
      event.preventDefault();
      send(method, path, inputs, body, place, () => form.requestSubmit());
    },
  }, inputs.map(({ element }) => element), body?.element ?? null,
    make("div", { class: "go" }, make("button", { type: "submit" }, "Send")), place);
  return form;
}

function responseTable(responses) {
  const rows = Object.entries(responses).map(([status, response]) =>
    make("tr", {}, make("th", { scope: "row" }, status), make("td", {}, resolve(response).description)));
  return make("table", {}, make("caption", { class: "hidden" }, "Responses"), make("tbody", {}, rows));
}

function operationDetails(method, path, operation) {
  const answer = Object.values(operation.responses["200"].content)[0].schema;
  const body = Object.entries(operation.requestBody?.content ?? {}).filter(([, { schema }]) => schema);
  const details = make("details", { class: "operation", id: operation.operationId },
    make("summary", {},
      make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("code", { class: "path" }, path),
      make("span", { class: "what" }, operation.summary)));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    details.append(make("div", { class: "inside" },
      tryForm(method, path, operation),
      make("h3", {}, "Responses"), responseTable(operation.responses),
      body.map(([type, { schema }]) => more(`What the body may be, ${type}`, schemaText(schema))),
      answer ? more("What a 200 holds", schemaText(answer)) : null));
  });
  return details;
}

function section(id, title, text, children) {
  return make("section", { "aria-labelledby": id }, make("h2", { id }, title), text ? make("p", { class: "note" }, text) : null, children);
}

function operationsOf(tag) {
  return Object.entries(doc.paths).flatMap(([path, methods]) =>
    Object.entries(methods).filter(([, operation]) => operation.tags.includes(tag))
      .map(([method, operation]) => operationDetails(method, path, operation)));
}

function schemas() {
  return Object.entries(doc.components.schemas).map(([name, schema]) =>
    make("details", { class: "operation schema", id: `schema-${name}` },
      make("summary", {}, make("code", { class: "path" }, name)), make("div", { class: "inside" }, schemaText(schema))));
}

/** A link to a folded element opens it. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

function show() {
  const titles = [...doc.tags.map((tag) => [tag.name, tag["x-displayName"] ?? tag.name]), ["schemas", "Schemas"]];
  const parts = doc.tags.map(({ name, description }, at) => section(`tag-${name}`, titles[at][1], description, operationsOf(name)));
  parts.push(section("tag-schemas", "Schemas", "What the bodies of requests and responses consist of.", schemas()));
  const title = make("h1", {}, doc.info.title, " ", make("span", { class: "version" }, `version ${doc.info.version}`));
  find("operations").replaceChildren(title, make("p", { class: "lead" }, doc.info.description), ...parts);
  find("sections").replaceChildren(...titles.map(([name, words]) => make("li", {}, make("a", { href: `#tag-${name}` }, words))));
  openTarget();
}

async function start() {
  try {
    const answer = await ask("openapi.json");
    showSlot(answer);
    if (answer.status === 401) askForKey(answer, start);
    if (answer.status !== 200) {
      setStatus("failed", reasonOf(answer));
      return;
    }
    if (hasKey()) keyAccepted();
    doc = answer.json;
    setStatus("ready", `OpenAPI ${doc.openapi}`);
    show();
  } catch {
    setStatus("failed", "The server does not respond");
  }
}

addEventListener("hashchange", openTarget);
start();
