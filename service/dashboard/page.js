// The page: look, show, wait, look again. What is on it is always the last thing the API said.

import { Away, look, versionsOf } from "./api.js";
import { emptyBook, keep, leaf, showLeaf } from "./view.js";

const BUSY_MS = 800;
const IDLE_MS = 2500;
const AWAY_MS = 3000;

const models = document.getElementById("models");
const word = document.getElementById("word");
const lines = new Map(); // model id -> {head, versions, earlier}, asked for again only when the head moves
let lastSeen = null;

async function line(model) {
  const known = lines.get(model.id);
  if (known && known.head === model.head) return known;
  const found = { head: model.head, ...(model.head === null ? { versions: [], earlier: false } : await versionsOf(model)) };
  lines.set(model.id, found);
  return found;
}

function say(text, away = false) {
  if (word.textContent !== text) word.textContent = text;
  document.body.classList.toggle("away", away);
}

function show(book) {
  if (book.length === 0) keep(models, ["empty"], (key) => key, emptyBook, () => {});
  else keep(models, book, (model) => model.id, leaf, showLeaf);
  models.setAttribute("aria-busy", "false");
  const busy = book.reduce((sum, model) => sum + model.jobs.filter((job) => !job.done).length, 0);
  const jobs = `${busy} ${busy === 1 ? "job" : "jobs"} at work`;
  const count = `${book.length} ${book.length === 1 ? "model" : "models"}`;
  say(book.length === 0 ? "An empty book." : busy ? `${count}, ${jobs}` : `${count}, at rest`);
  document.title = busy ? `(${busy}) Palimpsest` : "Palimpsest";
}

function showAway() {
  const since = lastSeen ? `What you see is from ${lastSeen.toLocaleTimeString()}.` : "Nothing has been seen of it yet.";
  say(`The service does not answer. ${since} Trying again every ${AWAY_MS / 1000} seconds.`, true);
}

async function turn() {
  try {
    const book = await look();
    const lineOf = await Promise.all(book.map(line));
    book.forEach((model, index) => (model.line = lineOf[index]));
    lastSeen = new Date();
    show(book);
    return book.some((model) => model.busy) ? BUSY_MS : IDLE_MS;
  } catch (error) {
    if (!(error instanceof Away)) throw error;
    showAway();
    return AWAY_MS;
  }
}

async function keepTurning() {
  for (;;) {
    const pause = document.hidden ? IDLE_MS : await turn();
    await new Promise((wake) => setTimeout(wake, pause));
  }
}

keepTurning();
