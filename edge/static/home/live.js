// The live page: goals with the states of their tasks, and the last events, over one WebSocket
// that resumes where it broke off. Nothing from the platform is ever read as HTML.
"use strict";

const EVENTS_SHOWN = 100;
const GOALS_SHOWN = 20;
const BACKOFF_MS = [500, 30000];
const TOPICS = ["events"];
const UNAUTHENTICATED = 4401;

const at = (id) => document.getElementById(id);
const goals = new Map();
let socket = null, position = null, tries = 0, timer = 0;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const key = () => sessionStorage.getItem("key");
let session = false; // signed in with this browser: its cookie speaks instead of a key

function say(state, text) {
  at("state").dataset.state = state;
  at("state").textContent = text;
}

function show(signedIn) {
  at("enter").hidden = signedIn;
  for (const id of ["goals", "events", "leave"]) at(id).hidden = !signedIn;
}

async function ask(path) {
  const answer = await fetch(`/api/v1${path}`, {
    headers: key() ? { authorization: `Bearer ${key()}` } : {},
  });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

async function loadGoals() {
  try {
    const page = await ask(`/goals?limit=${GOALS_SHOWN}`);
    for (const goal of page.items.reverse()) remember(goal);
    const open = page.items.filter((goal) => goal.current_plan_id);
    await Promise.all(open.map(async (goal) => {
      const tasks = await ask(`/goals/${goal.id}/tasks`);
      for (const task of tasks.items) rememberTask(task);
    }));
  } catch (failed) {
    say("waiting", `The goals cannot be loaded (${failed.message})`);
  }
  draw();
}

function entry(id) {
  if (!goals.has(id)) goals.set(id, { goal: null, tasks: new Map() });
  return goals.get(id);
}

function remember(goal) {
  const known = entry(goal.id);
  if (!known.goal || known.goal.version <= goal.version) known.goal = goal;
}

function rememberTask(task) {
  const { tasks } = entry(task.goal_id), known = tasks.get(task.id);
  if (!known || known.version <= task.version) tasks.set(task.id, task);
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; redraw(); });
}

function redraw() {
  const shown = [...goals.values()].filter((known) => known.goal)
    .sort((a, b) => (a.goal.created_at < b.goal.created_at ? 1 : -1));
  for (const old of shown.splice(GOALS_SHOWN)) goals.delete(old.goal.id);
  at("no-goals").hidden = shown.length > 0;
  at("goal-list").replaceChildren(...shown.map(goalRow));
}

function goalRow({ goal, tasks }) {
  const row = element("li", undefined, { class: "goal" });
  const title = element("h3", `${goal.title || goal.description.slice(0, 120)} `);
  title.append(element("span", goal.status, { class: "badge", "data-status": goal.status }));
  const done = element("progress", undefined, { max: "1", "aria-label": "Progress" });
  done.value = goal.status === "completed" ? 1 : goal.progress;
  const tokens = goal.prompt_tokens + goal.completion_tokens;
  row.append(title, done, element("p", `${tokens} tokens`, { class: "quiet" }));
  const list = element("ul", undefined, { class: "tasks", "aria-label": "Tasks" });
  for (const task of tasks.values()) {
    list.append(element("li", `${task.title}: ${task.status}`, { "data-status": task.status }));
  }
  row.append(list);
  return row;
}

function happened(event) {
  position = event.position;
  const { goal, task } = event.data;
  if (goal) remember(goal);
  if (task) rememberTask(task);
  if (goal || task) draw();
  const row = element("li");
  const when = new Date(event.ts);
  row.append(element("time", when.toLocaleTimeString(), { datetime: event.ts }));
  row.append(element("span", `${event.type} ${summary(event)}`));
  at("no-events").hidden = true;
  at("event-list").prepend(row);
  while (at("event-list").childElementCount > EVENTS_SHOWN) at("event-list").lastElementChild.remove();
}

function summary(event) {
  const entity = Object.values(event.data)[0] || {};
  const name = entity.title || entity.name || entity.tool_name || event.entity_id || "";
  return entity.status ? `${name} (${entity.status})` : String(name);
}

function connect() {
  clearTimeout(timer);
  say("waiting", "Connecting");
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/ws`);
  socket.onopen = () => { if (key()) socket.send(JSON.stringify({ op: "auth", key: key() })); };
  socket.onmessage = ({ data }) => obey(JSON.parse(data));
  socket.onclose = ({ code }) => closed(code);
}

function obey(frame) {
  if (frame.op === "hello") {
    tries = 0;
    say("open", "Live");
    const since = position || frame.position;
    socket.send(JSON.stringify({ op: "subscribe", topics: TOPICS, since }));
    if (!position) loadGoals();
    position = since;
  } else if (frame.op === "event") {
    happened(frame);
  } else if (frame.op === "ping") {
    socket.send(JSON.stringify({ op: "pong" }));
  } else if (frame.op === "gap") {
    position = frame.position;
    goals.clear();
    loadGoals();
  } else if (frame.op === "error") {
    say("open", `Live, but: ${frame.message}`);
  }
}

function closed(code) {
  socket = null;
  if (!key() && !session) return;
  if (code === UNAUTHENTICATED) {
    leave(session ? "You are signed out." : "This key is not valid.");
    return;
  }
  const wait = Math.min(BACKOFF_MS[1], BACKOFF_MS[0] * 2 ** tries++) * (0.5 + Math.random() / 2);
  say("waiting", `Connection lost; again in ${Math.ceil(wait / 1000)} s`);
  timer = setTimeout(connect, wait);
}

function leave(why = "") {
  sessionStorage.removeItem("key");
  session = false;
  position = null;
  goals.clear();
  at("event-list").replaceChildren();
  clearTimeout(timer);
  if (socket) socket.close();
  show(false);
  say("closed", "Not connected");
  at("refused").textContent = why;
  at("key").focus();
}

at("enter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  sessionStorage.setItem("key", at("key").value.trim());
  at("key").value = "";
  at("refused").textContent = "";
  show(true);
  connect();
});
at("leave").addEventListener("click", () => {
  if (session) location.assign("/sign-in"); // where one signs out
  else leave();
});

async function start() {
  if (!key()) session = await signedIn();
  if (session) at("leave").textContent = "Your session";
  show(Boolean(key()) || session);
  if (key() || session) connect();
}

async function signedIn() {
  try {
    return (await ask("/auth/me")).kind === "user";
  } catch {
    return false;
  }
}

start();
