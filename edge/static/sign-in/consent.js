"use strict";

const request = Object.fromEntries(new URLSearchParams(location.search));
let csrf = null;

async function start() {
  const me = await whoAmI();
  if (!me) {
    const here = `/oauth/authorize${location.search}`;
    location.replace(`/sign-in?next=${encodeURIComponent(here)}`);
    return;
  }
  csrf = me.csrf;
  const query = new URLSearchParams(request);
  const answer = await ask("GET", `/auth/authorization?${query}`);
  if (answer.ok) describe(answer.body);
  else complain(answer);
}

function describe(asked) {
  byId("client").textContent = asked.client_name;
  byId("owner").textContent = asked.registered_by;
  byId("place").textContent = asked.comes_back_to;
  byId("wishes").replaceChildren(...asked.wishes.map((wish) => {
    const item = document.createElement("li");
    item.textContent = wish.words;
    return item;
  }));
  show("decision");
  byId("question").focus();
}

byId("decision").addEventListener("submit", async (event) => {
  event.preventDefault();
  const allow = event.submitter !== null && event.submitter.value === "yes";
  const buttons = document.querySelectorAll("button");
  buttons.forEach((button) => { button.disabled = true; });
  const answer = await ask("POST", "/auth/authorization", { ...request, allow }, csrf);
  if (answer.ok) {
    location.replace(answer.body.location);
    return;
  }
  complain(answer);
  buttons.forEach((button) => { button.disabled = false; });
});

start();
