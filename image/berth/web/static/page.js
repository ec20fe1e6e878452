// What the pages share: elements made from text alone, requests with the key, the key's form.

let key = "";

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
