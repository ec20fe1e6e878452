// From a model's signature to a form, and from the form to a request body.

import { make, spaced } from "./page.js";

const MOST_FIELDS = 64;

function fieldsOf(model) {
  const [first] = model.inputs;
  if (model.inputs.length === 1 && first.shape.length === 2 && first.shape[1] > 0) {
    const names = first.columns ?? Array.from({ length: first.shape[1] }, (_, at) => `feature ${at + 1}`);
    return names.map((name) => ({ name, datatype: first.datatype }));
  }
  return model.inputs.every((input) => input.shape.length === 1) ? model.inputs : null;
}

function exampleValues(model, fields) {
  const features = model.example?.features;
  if (Array.isArray(features)) return features;
  return fields.map((field) => features?.[field.name]);
}

const shown = (value) => (value === null || value === undefined ? "" : String(value));

/** What to type, where the name does not say it. */
function hintOf(datatype) {
  if (datatype === "BYTES") return "text";
  return datatype.includes("INT") ? "whole number" : "";
}

function inputFor(field, value, id) {
  if (field.datatype === "BOOL") {
    const select = make("select", { id }, make("option", {}, "true"), make("option", {}, "false"));
    select.value = String(Boolean(value));
    return select;
  }
  const mode = field.datatype === "BYTES" ? "text" : field.datatype.includes("INT") ? "numeric" : "decimal";
  return make("input", { id, type: "text", inputmode: mode, value: shown(value), autocomplete: "off", spellcheck: "false" });
}

/** What was typed as the JSON value a datatype wants; an empty number is a missing one. */
function parse(text, field) {
  if (field.datatype === "BYTES") return text;
  if (field.datatype === "BOOL") return text === "true";
  if (text.trim() === "") return null;
  const number = Number(text.trim().replace(",", "."));
  if (Number.isNaN(number)) throw new Error(`${field.name}: “${text}” is not a number`);
  return number;
}

function oneFieldEach(model, fields) {
  const values = exampleValues(model, fields);
  const inputs = fields.map((field, at) => inputFor(field, values[at], `field-${at}`));
  const rows = fields.map((field, at) =>
    make("div", { class: "field" }, make("label", { for: `field-${at}` }, field.name, " ", make("small", {}, hintOf(field.datatype))), inputs[at]));
  const matrix = model.inputs[0].shape.length === 2;
  const read = () => {
    const typed = fields.map((field, at) => parse(inputs[at].value, field));
    return { features: matrix ? typed : Object.fromEntries(fields.map((field, at) => [field.name, typed[at]])) };
  };
  return { element: make("div", { class: "fields" }, rows), read };
}

function wholeBody(model) {
  const { features, inputs } = model.example ?? {};
  const text = JSON.stringify(features === undefined ? { inputs } : { features });
  const area = make("textarea", { id: "body", rows: "10", spellcheck: "false", "aria-describedby": "body-note" });
  area.value = text;
  const element = make("div", { class: "fields whole" },
    make("label", { for: "body" }, "Tensors, as JSON"), area,
    make("p", { id: "body-note", class: "note" }, "The inputs of this model do not fit a form; edit the request itself."));
  const read = () => {
    try {
      return JSON.parse(area.value);
    } catch (error) {
      throw new Error(`this is not JSON: ${error.message}`);
    }
  };
  return { element, read };
}

/** The form's fields, and `read()`, which returns the request's body or throws an Error in words. */
export function makeFields(model) {
  const fields = fieldsOf(model);
  return fields && fields.length <= MOST_FIELDS ? oneFieldEach(model, fields) : wholeBody(model);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same request for a shell; the key stays a variable. */
export function curlCommand(body, withKey) {
  const url = new URL("predict", document.baseURI).href;
  const lines = [`curl ${quoted(url)}`, "-H 'Content-Type: application/json'"];
  if (withKey) lines.push('-H "X-Api-Key: $BERTH_KEY"');
  const members = Object.entries(body).map(([name, value]) => `    ${JSON.stringify(name)}: ${spaced(value)}`);
  return [...lines, `-d ${quoted(`{\n${members.join(",\n")}\n  }`)}`].join(" \\\n  ");
}
