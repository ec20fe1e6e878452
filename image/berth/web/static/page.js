// What the pages share: elements made from text alone, requests with the key, the key's form, reading again.

const REFRESH_MS = 10000;
let key = "";
let timer = 0;

/** An element; children are text or elements, never markup. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of a picture. */
export function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const find = (id) => document.getElementById(id);

/** JSON with a space behind each comma, so that a line can break there. */
export function spaced(value) {
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${spaced(item)}`).join(", ")}}`;
}

/** One request with the key, if there is one: status, headers, text, its JSON (or undefined) and the milliseconds. */
export async function ask(path, { method = "GET", body, headers = {} } = {}) {
  const sent = { Accept: "application/json, */*;q=0.5", ...headers };
  if (key) sent["X-Api-Key"] = key;
  const began = performance.now();
  const response = await fetch(path, { method, body, headers: sent, cache: "no-store" });
  const text = await response.text();
  const answer = { status: response.status, headers: response.headers, text, ms: performance.now() - began };
  try {
    answer.json = JSON.parse(text);
  } catch {
    answer.json = undefined;
  }
  return answer;
}

/** What went wrong, in the server's own words. */
export function reasonOf(answer) {
  return answer.json?.error ?? `the server returned ${answer.status}`;
}

export const hasKey = () => key !== "";

/** Show the key's form when the server refused for want of one; `retry` runs when a key was typed. */
export function askForKey(answer, retry) {
  const form = find("key-form");
  form.hidden = false;
  find("key-note").textContent = hasKey()
    ? reasonOf(answer)
    : "Kept in this page's memory only; gone when you reload.";
  form.onsubmit = (event) => {
    event.preventDefault();
    key = find("key").value.trim();
    if (key) retry();
  };
}

export function setStatus(state, text) {
  const status = find("status");
  status.dataset.state = state;
  status.textContent = text;
}

/** Show which slot responded, and colour the page's edge like it. */
export function showSlot(answer) {
  const slot = answer.headers.get("X-Berth-Slot");
  if (!slot) return;
  find("slot").hidden = false;
  find("slot").textContent = `slot ${slot}`;
  document.documentElement.dataset.slot = slot;
}

/** Hide the key's form once a key was accepted. */
export function keyAccepted() {
  find("key-form").hidden = true;
}

/** The responses of all `paths`; undefined where a key is wanted, with which `retry` runs. Throws for another error. */
export async function readAll(paths, retry) {
  const answers = await Promise.all(paths.map((path) => ask(path)));
  showSlot(answers.at(-1));
  const refused = answers.find(({ status }) => status !== 200);
  if (refused?.status === 401) {
    askForKey(refused, retry);
    setStatus("loading", "A key is required");
    return undefined;
  }
  if (refused) throw new Error(reasonOf(refused));
  if (hasKey()) keyAccepted();
  return answers;
}

/** Run `update` now and every ten seconds, until it returns false: then a key is wanted. */
export async function keepFresh(update) {
  clearTimeout(timer);
  try {
    if ((await update()) === false) return;
  } catch (error) {
    setStatus("failed", error instanceof TypeError ? "The server does not respond" : error.message);
  }
  timer = setTimeout(keepFresh, REFRESH_MS, update);
}
