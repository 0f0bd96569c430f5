// The dashboard: fetch from the API, render, wait, repeat. If the API does not respond, the last data stays.

import { ServiceUnavailable, SignInNeeded, fetchModels, fetchVersions, signIn, signOut } from "./api.js";
import { modelCard, noModels, signInForm, updateChildren, updateModelCard } from "./view.js";

const BUSY_MS = 800;
const IDLE_MS = 2500;
const UNAVAILABLE_MS = 3000;

const modelList = document.getElementById("models");
const serviceStatus = document.getElementById("service-status");
// Model id -> {head, versions, earlier}. head: the number of the newest version; a new one means fetch again.
// earlier: whether there are older versions that were not fetched.
const cachedVersions = new Map();
let lastFetched = null;

async function getVersions(model) {
  const cached = cachedVersions.get(model.id);
  if (cached && cached.head === model.head) return cached;
  const fetched = model.head === null ? { versions: [], earlier: false } : await fetchVersions(model);
  const entry = { head: model.head, ...fetched };
  cachedVersions.set(model.id, entry);
  return entry;
}

function setStatus(text, unavailable = false) {
  if (serviceStatus.textContent !== text) serviceStatus.textContent = text;
  document.body.classList.toggle("unavailable", unavailable);
}

const count = (number, noun) => `${number === 0 ? "no" : number} ${noun}${number === 1 ? "" : "s"}`;

function render(models) {
  if (models.length === 0) updateChildren(modelList, ["none"], (key) => key, noModels, () => {});
  else updateChildren(modelList, models, (model) => model.id, modelCard, updateModelCard);
  modelList.setAttribute("aria-busy", "false");
  const unfinished = models.reduce((sum, model) => sum + model.jobs.filter((job) => !job.done).length, 0);
  const jobs = `${count(unfinished, "job")} in progress`;
  setStatus(models.length === 0 ? "The service is running." : `${count(models.length, "model")}, ${jobs}`);
  document.title = unfinished ? `(${unfinished}) Palimpsest` : "Palimpsest";
}

function renderUnavailable() {
  const note = lastFetched ? `This page shows its state at ${lastFetched.toLocaleTimeString()}. ` : "";
  setStatus(`The service does not answer. ${note}Trying again every ${UNAVAILABLE_MS / 1000} seconds.`, true);
}

const SIGNED_IN = "signed-in"; // only whether to show the button: scripts cannot read the session's cookie
const signOutButton = document.getElementById("sign-out");
signOutButton.hidden = !sessionStorage.getItem(SIGNED_IN);

/** Sign in with a key and show the models. Returns why the key was refused, or null. */
async function openSession(key) {
  try {
    const refused = await signIn(key);
    if (refused !== null) return refused;
  } catch (error) {
    if (!(error instanceof ServiceUnavailable)) throw error;
    return "The service does not answer. Try again.";
  }
  sessionStorage.setItem(SIGNED_IN, "yes");
  await refresh();
  return null;
}

signOutButton.addEventListener("click", async () => {
  await signOut();
  await refresh();
});

function renderSignIn() {
  sessionStorage.removeItem(SIGNED_IN);
  cachedVersions.clear();
  updateChildren(modelList, ["sign-in"], (key) => key, () => signInForm(openSession), () => {});
  modelList.setAttribute("aria-busy", "false");
  setStatus("Sign in to see the models.");
}

/** Fetch and render once; return how many milliseconds to wait before the next time. */
async function refresh() {
  try {
    const models = await fetchModels();
    const versions = await Promise.all(models.map(getVersions));
    lastFetched = new Date();
    render(models.map((model, index) => ({ ...model, ...versions[index] })));
    return models.some((model) => model.busy) ? BUSY_MS : IDLE_MS;
  } catch (error) {
    if (error instanceof SignInNeeded) {
      renderSignIn();
      return IDLE_MS;
    }
    if (!(error instanceof ServiceUnavailable)) throw error;
    renderUnavailable();
    return UNAVAILABLE_MS;
  } finally {
    signOutButton.hidden = !sessionStorage.getItem(SIGNED_IN);
  }
}

async function refreshForever() {
  for (;;) {
    const pause = document.hidden ? IDLE_MS : await refresh();
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

refreshForever();
