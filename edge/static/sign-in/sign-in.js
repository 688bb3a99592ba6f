"use strict";

const asked = new URLSearchParams(location.search);
const next = ownPath(asked.get("next") || "/");
const REFUSED = {
  ERR_182: "No external provider is configured here.",
  ERR_200: "Your account here is disabled.",
  ERR_207: "The answer of the provider does not fit this sign-in. Start again.",
  ERR_305: "The provider knows you, but nobody has given you an account here.",
};

byId("sign-in").addEventListener("submit", (event) => submit(event, signIn));
byId("set-up").addEventListener("submit", (event) => submit(event, setUp));
byId("sign-out").addEventListener("click", signOut);

async function submit(event, send) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector("button");
  byId("problem").textContent = "";
  button.disabled = true;
  await send(Object.fromEntries(new FormData(form)));
  button.disabled = false;
}

async function signIn({ login, password }) {
  const answer = await ask("POST", "/auth/login", { login: login.trim(), password, browser: true });
  if (answer.ok) {
    location.replace(next);
    return;
  }
  complain(answer);
  byId("password").value = "";
  byId("password").focus();
}

async function setUp({ token, login, name, password }) {
  const answer = await ask("POST", "/auth/setup", { token: token.trim(), login, name, password });
  if (answer.ok) await signIn({ login, password });
  else complain(answer);
}

async function signOut() {
  const me = await whoAmI();
  const answer = me ? await ask("POST", "/auth/logout", {}, me.csrf) : { ok: true };
  if (answer.ok) location.replace("/sign-in");
  else complain(answer);
}

async function showWho(me) {
  const user = await ask("GET", `/users/${me.id}`);
  if (user.ok) byId("who").textContent = `You are signed in as ${user.body.name}`;
  byId("onward").href = next;
  show("signed-in");
  byId("who").focus();
}

async function start() {
  if (!window.isSecureContext) {
    show("tls");
    return;
  }
  const code = asked.get("refused");
  if (code) byId("problem").textContent = REFUSED[code] || "The sign-in at the provider failed. Start again.";
  const me = await whoAmI();
  if (me) {
    await showWho(me);
    return;
  }
  const ways = await ask("GET", "/auth/setup");
  if (!ways.ok) complain(ways);
  if (ways.ok && ways.body.needed) askForSetUp();
  else {
    if (ways.ok && ways.body.provider) offer(ways.body.provider);
    show("sign-in");
    byId("login").focus();
  }
}

function offer(host) {
  byId("provider").textContent = `Sign in with ${host}`;
  byId("provider").href = `/auth/oidc/start?next=${encodeURIComponent(next)}`;
  show("elsewhere");
}

function askForSetUp() {
  byId("token").value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  show("set-up");
  byId(byId("token").value ? "new-login" : "token").focus();
}

start();
