"use strict";

// What both pages need: asking our own interface with the session's cookie, and telling what failed.

const API = "/api/v1";
const byId = (id) => document.getElementById(id);
const show = (id, visible = true) => { byId(id).hidden = !visible; };

/** The answer of our interface; an object with status 0 when there is none. */
async function ask(method, path, body, csrf) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (csrf) headers["x-csrf-token"] = csrf;
  try {
    const answer = await fetch(API + path, {
      method, headers, credentials: "same-origin", cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    return {
      status: answer.status, ok: answer.ok, csrf: answer.headers.get("x-csrf-token"),
      body: text ? JSON.parse(text) : null,
    };
  } catch {
    return { status: 0, ok: false, body: null };
  }
}

/** Who is signed in with this browser, or null. */
async function whoAmI() {
  const me = await ask("GET", "/auth/me");
  if (!me.ok || me.body.kind !== "user") return null;
  return { id: me.body.id, csrf: me.csrf };
}

function complain(answer) {
  const error = answer.body && answer.body.error;
  byId("problem").textContent = error ? error.message : "The platform does not answer. Try again in a moment.";
}

/** A path of our own, whatever was asked for: never another site. */
function ownPath(text) {
  try {
    const target = new URL(text, location.origin);
    if (text.startsWith("/") && !/^\/[/\\]/.test(text) && target.origin === location.origin) {
      return target.pathname + target.search;
    }
  } catch { /* not an address at all */ }
  return "/";
}
