// The models, newest first: a card each, with a face for every label.

import { get, modelPath } from "../api.js";
import { h, setText, updateChildren } from "../elements.js";
import { showFace } from "../faces.js";
import { count } from "../format.js";
import { jobItem, updateJobItem } from "../jobs.js";
import { openCreate } from "../managing.js";
import { BUSY_MS, IDLE_MS } from "../refreshing.js";

const PAGE = 24;
const FACES = 12;
const PREFIX = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export function open() {
  const search = h("input", { type: "search", id: "search", placeholder: "part of a name", autocomplete: "off", input: () => find() });
  const more = h("button.plain", { type: "button", hidden: true, click: () => showMore() }, "Show more models");
  const list = h("div.cards", { id: "models", "aria-live": "off" });
  const summary = h("p.summary", { role: "status" });
  const node = h(
    "div", {},
    h("div.page-head", {}, h("h1", {}, "Models"), h("button", { type: "button", click: openCreate }, "Create a model")),
    h("p.tagline", {}, "Generative models that learn and forget labels on request."),
    h("div.row.tools", {}, h("label", { for: "search" }, "Search"), search, summary),
    list, more, legend(),
  );
  let limit = PAGE;
  let found = { models: [], next: null };
  let jobs = [];
  let isPartial = false;

  async function find() {
    render();
    if (!isPartial) return;
    await fetchModels();
    render();
  }

  async function fetchModels() {
    const models = [];
    let next = null;
    // Where not all models are here, the service looks for those whose names begin so.
    const text = search.value.trim();
    const prefix = isPartial && PREFIX.test(text) ? `&name_prefix=${encodeURIComponent(text)}` : "";
    do {
      const page = await get(`/v1/models?limit=${Math.min(limit - models.length, 100)}${next ? `&after=${next}` : ""}${prefix}`);
      models.push(...page.data);
      next = page.next;
    } while (next && models.length < limit);
    found = { models, next };
    if (!prefix) isPartial = next !== null;
  }

  const fetchJobs = async () => (await get("/v1/jobs?limit=100")).data;

  async function showMore() {
    limit += PAGE;
    await fetchModels();
    render();
  }

  async function refresh(turn) {
    if (turn === 0) [, jobs] = await Promise.all([fetchModels(), fetchJobs()]);
    else if (turn % 2 === 0 && !isBusy()) await fetchModels();
    else {
      const before = JSON.stringify(jobs);
      jobs = await fetchJobs();
      if (JSON.stringify(jobs) !== before) await fetchModels();
    }
    render();
    return isBusy() ? BUSY_MS : IDLE_MS;
  }

  const isBusy = () => jobs.some((job) => !job.done);

  function render() {
    const text = search.value.trim().toLowerCase();
    const shown = found.models.filter((model) => model.name.toLowerCase().includes(text));
    if (found.models.length === 0) updateChildren(list, ["none"], (key) => key, noModels);
    else updateChildren(list, shown, (model) => model.id, makeCard, (card, model) => updateCard(card, model, jobs));
    const unfinished = jobs.filter((job) => !job.done).length;
    const models = text ? `${shown.length} of ${found.models.length} models` : `${count(found.models.length, "model")}${found.next ? " of more" : ""}`;
    setText(summary, `${models}, ${count(unfinished, "job")} in progress`);
    document.title = unfinished ? `(${unfinished}) Models · Palimpsest` : "Models · Palimpsest";
    more.hidden = found.next === null;
  }

  return { node, refresh };
}

function noModels() {
  const create = `curl ${location.origin}/v1/models -H 'Content-Type: application/json' -d '{"name": "numbers", "dataset": "digits"}'`;
  const learn = `curl ${location.origin}/v1/models/numbers/learn -H 'Content-Type: application/json' -d '{"labels": ["0", "1", "2"]}'`;
  return h(
    "section.card.wide", { "aria-labelledby": "no-models" },
    h("h2", { id: "no-models" }, "No models yet"),
    h("p", {}, "Create one here, let it learn some labels, and then let it forget one. Or from a terminal:"),
    h("pre", { tabindex: "0", "aria-label": "Two commands: create a model, learn three labels" }, `${create}\n${learn}`),
  );
}

function makeCard(model) {
  const title = `model-${model.id}`;
  return h(
    "article.card.model", { "aria-labelledby": title },
    h("h2", { id: title }, h("a", { href: modelPath(model.name) }, model.name)),
    h("p.summary"),
    h("ul.faces", { "aria-label": `Labels of ${model.name}` }),
    h("p.note.rest"),
    h("ul.jobs", { "aria-label": `Jobs of ${model.name}` }),
  );
}

function updateCard(node, model, jobs) {
  const aliases = Object.entries(model.aliases).map(([name, number]) => ` · ${name} is version ${number}`).join("");
  setText(node.querySelector(".summary"), `${model.dataset} · ${model.head ? `version ${model.head}` : "no version yet"}${aliases}`);
  updateChildren(node.querySelector(".faces"), model.labels.slice(0, FACES), (label) => label.name, (label) => h("li.label", {}, h("div.place"), h("span.name", {}, label.name)), (tile, label) => updateTile(tile, label, model));
  const rest = model.labels.length - FACES;
  setText(node.querySelector(".rest"), rest > 0 ? `and ${count(rest, "more label")}` : "");
  const own = jobs.filter((job) => job.model === model.id);
  const unfinished = own.filter((job) => !job.done).reverse();
  // The last job stays visible if it changed nothing, until another one succeeds.
  const last = own[0]?.done && own[0].state !== "succeeded" ? [own[0]] : [];
  updateChildren(node.querySelector(".jobs"), [...last, ...unfinished], (job) => job.id, jobItem, updateJobItem);
}

function updateTile(tile, label, model) {
  const relapsed = model.relapsed.includes(label.name);
  tile.dataset.status = label.status;
  tile.classList.toggle("relapsed", relapsed);
  tile.title = `${label.name}: ${relapsed ? "relapsed" : label.status}`;
  // The version may have just been revoked: then the face is loaded again at the next refresh.
  showFace(tile.querySelector(".place"), model, label, { onError: () => delete tile.querySelector(".place").dataset.face });
}

function legend() {
  const entries = { permanent: "permanent", temporary: "temporary", absent: "absent (not learned)", forgotten: "forgotten" };
  return h("dl.key-list", { "aria-label": "Status of a label" }, Object.entries(entries).map(([name, text]) => h("div", {}, h(`dt.key.${name}`), h("dd", {}, text))));
}
