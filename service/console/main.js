// The console: finds the page of this address, and refreshes it for as long as it is visible.
//
// A page is a module in pages/ that exports `open(parameters)`: {node, refresh}. `refresh(turn)` fetches,
// brings the node up to date and returns how many milliseconds to wait. An idle page sends one request a turn.

import { Refused, ServiceUnavailable, SignInNeeded, readiness, signIn, signOut } from "./api.js";
import { card, h, setText } from "./elements.js";
import { IDLE_MS, pauseFor, refreshNow } from "./refreshing.js";

const UNAVAILABLE_MS = 3000;
const TURNS_BETWEEN_CHECKS = 4;

const PAGES = [
  [/^\/$/, "models"],
  [/^\/models\/([^/]+)$/, "model"],
  [/^\/models\/([^/]+)\/compare$/, "compare"],
  [/^\/models\/([^/]+)\/relapse$/, "relapse"],
  [/^\/models\/([^/]+)\/sample$/, "sample"],
  [/^\/jobs$/, "jobs"],
  [/^\/jobs\/([^/]+)$/, "job"],
  [/^\/datasets$/, "datasets"],
  [/^\/keys$/, "keys"],
  [/^\/webhooks$/, "webhooks"],
];

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const signOutButton = document.getElementById("sign-out");
const SIGNED_IN = "signed-in"; // only whether to show the button: scripts cannot read the session's cookie

let page = null;
let lastFetched = null;
let lastPause = IDLE_MS;

function findPage() {
  for (const [pattern, name] of PAGES) {
    const found = pattern.exec(location.pathname);
    if (found) return { name, parameters: found.slice(1).map(decodeURIComponent) };
  }
  return null;
}

function showBanner(text, kind = "") {
  setText(banner, text);
  banner.className = `banner ${kind}${text ? " shown" : ""}`;
}

async function checkHealth() {
  const { status, checks } = await readiness();
  const faults = Object.entries(checks).filter(([, state]) => state !== "ok").map(([name, state]) => `${name}: ${state}`);
  if (status === "ready") showBanner("");
  else showBanner(`The service is ${status}. ${faults.join("; ")}.`, status);
}

function showUnavailable() {
  const note = lastFetched ? `This page shows its state at ${lastFetched.toLocaleTimeString("en-GB")}. ` : "";
  showBanner(`The service does not answer. ${note}Trying again every ${UNAVAILABLE_MS / 1000} seconds.`, "unavailable");
  document.body.classList.add("unavailable");
}

function show(node) {
  if (main.firstElementChild !== node) main.replaceChildren(node);
  main.setAttribute("aria-busy", "false");
}

/** Refresh once; return how many milliseconds to wait before the next time. */
async function refresh(turn) {
  try {
    const isCheck = turn % TURNS_BETWEEN_CHECKS === 0;
    if (isCheck) await checkHealth();
    if (!isCheck || turn === 0) lastPause = await page.refresh(turn);
    show(page.node);
    lastFetched = new Date();
    if (document.body.classList.contains("unavailable")) {
      document.body.classList.remove("unavailable");
      await checkHealth();
    }
    return lastPause;
  } catch (error) {
    if (error instanceof SignInNeeded) {
      showSignIn();
      return IDLE_MS;
    }
    if (error instanceof ServiceUnavailable) {
      showUnavailable();
      return UNAVAILABLE_MS;
    }
    if (!(error instanceof Refused)) throw error;
    show(refusal(error));
    return 3 * IDLE_MS;
  } finally {
    signOutButton.hidden = !sessionStorage.getItem(SIGNED_IN);
  }
}

function refusal(error) {
  const title = error.status === 404 ? "Not found" : "Refused";
  document.title = `${title} · Palimpsest`;
  return h("div", {}, h("h1", {}, title), h("p", {}, error.message), h("p", {}, h("a", { href: "/" }, "All models")));
}

let signInForm = null;

function showSignIn() {
  sessionStorage.removeItem(SIGNED_IN);
  page = page && open(); // nothing of what was shown stays
  signInForm ??= makeSignInForm();
  show(signInForm);
  showBanner("");
}

function makeSignInForm() {
  const input = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const reason = h("p.error", { role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    setText(reason, (await openSession(input.value.trim())) ?? "");
  };
  return h(
    "div", {}, h("h1", {}, "Sign in"),
    card(
      "sign-in", "Who are you?", null,
      h("p", {}, "This service needs an API key. The key itself is not stored in this browser; a key may have expired or been revoked since you signed in."),
      h("form.row", { submit }, h("label", { for: "key" }, "API key"), input, h("button", {}, "Sign in")),
      reason,
    ),
  );
}

/** Sign in with a key and show the page. Returns why the key was refused, or null. */
async function openSession(key) {
  try {
    const session = await signIn(key);
    sessionStorage.setItem("scopes", session.scopes.join(" "));
  } catch (error) {
    if (error instanceof Refused) return error.message;
    if (error instanceof ServiceUnavailable) return "The service does not answer. Try again.";
    throw error;
  }
  sessionStorage.setItem(SIGNED_IN, "yes");
  signInForm = null;
  refreshNow();
  return null;
}

signOutButton.addEventListener("click", async () => {
  await signOut();
  refreshNow();
});

let open = () => null;

async function run() {
  const found = findPage();
  markNavigation(found?.name);
  if (found === null) {
    show(refusal(new Refused(404, { detail: "The console has no page at this address." })));
    return;
  }
  const module = await import(`./pages/${found.name}.js`);
  open = () => module.open(...found.parameters);
  page = open();
  for (let turn = 0; ; turn += 1) {
    const pause = document.hidden ? IDLE_MS : await refresh(turn);
    await pauseFor(pause);
  }
}

function markNavigation(name) {
  const section = { models: "/", model: "/", compare: "/", relapse: "/", sample: "/", jobs: "/jobs", job: "/jobs", datasets: "/datasets", keys: "/keys", webhooks: "/webhooks" }[name];
  document.querySelector(`nav a[href="${section}"]`)?.setAttribute("aria-current", name === section?.slice(1) || (section === "/" && name === "models") ? "page" : "true");
}

document.addEventListener("visibilitychange", () => document.hidden || refreshNow());
run();
