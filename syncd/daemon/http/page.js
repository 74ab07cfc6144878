// The page asks for itself again and changes what differs, so that the daemon alone decides what is shown.
// The token lives in a variable: it is gone when the page is.
"use strict";

const EVERY_MS = 2000;
const PATIENCE_MS = 10000;
const LONG_MS = 330000; // for what waits until files are in the store
const READ_MS = 8000; // to read what came of a button
const main = document.querySelector("main");
const told = document.getElementById("told");
const heard = document.getElementById("heard");
let token = "";
let timer = 0;
let fading = 0;
let isLooking = false;
let isSilent = false; // the daemon does not answer

function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), ...options, headers });
}

function say(text, forMs = READ_MS) {
  clearTimeout(fading);
  told.textContent = text;
  if (forMs) fading = setTimeout(say, forMs, "", 0);
}

// ---- the page again ---------------------------------------------------------------------------------

async function look() {
  if (isLooking || document.hidden) return;
  isLooking = true;
  clearTimeout(timer);
  try {
    const used = token;
    const answer = await ask(location.pathname);
    const text = await answer.text();
    if (used === token) {
      if (answer.status === 401) forget("That is not the token.");
      else if (answer.ok) show(new DOMParser().parseFromString(text, "text/html"));
      else throw new Error(text);
    }
    if (isSilent) say("");
    isSilent = false;
  } catch {
    if (!isSilent) say(`No news from the daemon since ${clock(new Date())}: this is how things were.`, 0);
    isSilent = true;
  }
  main.toggleAttribute("data-old", isSilent);
  isLooking = false;
  timer = setTimeout(look, EVERY_MS);
}

function forget(why) {
  token = "";
  say(why);
  setTimeout(look);
}

function show(fresh) {
  ready(fresh);
  const before = document.title;
  const focused = document.activeElement;
  document.title = fresh.title;
  morph(document.querySelector("header"), fresh.querySelector("header"));
  morph(main, fresh.querySelector("main"));
  if (focused !== document.activeElement) main.focus({ preventScroll: true }); // what had it is gone
  if (before !== document.title) heard.textContent = document.getElementById("says").textContent;
}

function ready(page) {
  for (const each of page.querySelectorAll(".scriptless")) each.remove();
  for (const each of page.querySelectorAll("#unlock")) each.hidden = false;
  for (const each of page.querySelectorAll("time")) each.textContent = clock(new Date(each.dateTime));
}

function clock(moment) {
  const time = { hour: "2-digit", minute: "2-digit" };
  const isToday = moment.toDateString() === new Date().toDateString();
  return moment.toLocaleString([], isToday ? time : { day: "numeric", month: "short", ...time });
}

// Make `old` like `fresh`, and touch nothing that is so already: focus, selection and what was unfolded stay.
function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-own")) return;
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const wanted = new Set([...fresh.children].map(key));
  const kept = new Map();
  for (const child of [...old.children]) {
    if (!key(child)) continue;
    if (wanted.has(key(child))) kept.set(key(child), child);
    else child.remove();
  }
  let at = old.firstChild;
  const drop = () => {
    const next = at.nextSibling;
    at.remove();
    at = next;
  };
  for (const child of [...fresh.childNodes]) {
    const match = key(child) ? kept.get(key(child)) : alike(at, child);
    if (!match) {
      old.insertBefore(child, at);
      continue;
    }
    while (at !== match && !key(at)) drop(); // to move what is focused would blur it
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    morph(match, child);
  }
  while (at) drop();
}

// The first of the nodes from `at` on, up to one with a key, that `child` can be made of.
function alike(at, child) {
  for (let node = at; node && !key(node); node = node.nextSibling) {
    if (node.nodeName === child.nodeName) return node;
  }
  return null;
}

function key(node) {
  return node.dataset?.key;
}

// ---- the token, the buttons, the question -----------------------------------------------------------

document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.id === "unlock") {
    token = document.getElementById("token").value.trim();
    say("");
    look();
  } else if (event.target.id === "limit") {
    steer("limit", { rate: document.getElementById("rate").value.trim(), ...lasting() });
  } else {
    explain(document.getElementById("path").value);
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.hasAttribute("data-lock")) forget("Locked.");
  else if (button?.dataset.verb) {
    const { verb, request } = button.dataset;
    const lasts = button.closest("#limit") && (verb === "pause" || verb === "limit");
    steer(verb, { ...JSON.parse(request), ...(lasts && lasting()) });
  }
});

// For how long a pause or a limit is to hold; nothing: until it is changed.
function lasting() {
  const seconds = document.getElementById("for").value;
  return seconds && { seconds: Number(seconds) };
}

const OUTCOMES = {
  pause: () => "Paused.",
  resume: () => "It goes on.",
  rescan: (answer) => `The daemon scans ${answer.sources.join(", ")}.`,
  retry: (answer) => (answer.files === 1 ? "1 file is tried again." : `${answer.files} files are tried again.`),
  limit: () => "The limit is changed.",
  reload: ({ problems, changes }) =>
    problems ? `The old configuration goes on: ${problems.join("; ")}` : changes.join("; ") || "Nothing has changed.",
  flush: ({ failed, waiting, kept_back }) =>
    [
      ...(failed ? [`${failed} failed`] : []),
      ...(waiting ? [`${waiting} still to be sent`] : []),
      ...Object.entries(kept_back).map(([source, why]) => `${source}: ${why}`),
    ].join("; ") || "All that was known is in the store.",
};
const underWay = new Set();

async function steer(verb, request) {
  const body = JSON.stringify(request);
  if (underWay.has(verb + body)) return;
  underWay.add(verb + body);
  if (verb === "flush") say("The daemon sends what it knows. It is said here when that is done.", 0);
  try {
    const answer = await ask(`api/v1/${verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: AbortSignal.timeout(LONG_MS),
    });
    const found = await answer.json();
    say(answer.ok ? OUTCOMES[verb](found) : found.error);
  } catch {
    say("The daemon did not answer; look whether it did it.");
  }
  underWay.delete(verb + body);
  look();
}

// What waits, when its list is opened.
document.addEventListener("toggle", (event) => list(event.target), true);

async function list(details) {
  const place = details.querySelector("[data-list]");
  if (!place || !details.open) return;
  try {
    const answer = await ask("api/v1/pending?limit=100");
    const { files, total, error } = await answer.json();
    if (!answer.ok) throw new Error(error);
    place.replaceChildren(...files.map(item));
    if (total > files.length) place.append(line(`and ${total - files.length} more`));
  } catch (error) {
    place.replaceChildren(line(error.message));
  }
}

function item({ source, path, state, reason }) {
  const name = document.createElement("bdi");
  name.textContent = path;
  return line(bold(state), ` ${source} `, name, `: ${reason}`);
}

function line(...parts) {
  const element = document.createElement("li");
  element.append(...parts);
  return element;
}

async function explain(path) {
  const place = document.getElementById("answer");
  try {
    const answer = await ask(`api/v1/explain?path=${encodeURIComponent(path)}`);
    const found = await answer.json();
    if (!answer.ok) place.textContent = found.error;
    else if (found.in_no_source) place.textContent = "No source has this path.";
    else {
      const lines = found.lines.map(([heading, text]) => line(bold(heading), ` ${text}`));
      place.replaceChildren(bold(found.state), ` ${found.source}: ${found.reason}`, document.createElement("ul"));
      place.lastChild.append(...lines);
    }
  } catch {
    place.textContent = "The daemon did not answer.";
  }
}

function bold(text) {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}

document.addEventListener("visibilitychange", look);
ready(document);
timer = setTimeout(look, EVERY_MS);
