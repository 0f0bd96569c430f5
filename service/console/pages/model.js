// One model: its labels, what can be done with it, its jobs, its versions, and how they compare.

import { get, getIfAny, modelApi, modelPath } from "../api.js";
import { select } from "../dialogs.js";
import { card, h, renderOnce, setText, updateChildren } from "../elements.js";
import { imagesAddress, isHeld, showFace } from "../faces.js";
import { count, moment, percent, shortNumber } from "../format.js";
import { accuracyPlot, isDrawable, lineage, relapsePlot, sizePlot, versionList } from "../history.js";
import { jobItem, updateJobItem } from "../jobs.js";
import { describedBy, openDelete, openDeleteVersion, openDescribe, openPromote, openRollBack } from "../managing.js";
import { openEvaluate, openForget, openLearn, openResize } from "../operations.js";
import { BUSY_MS, IDLE_MS, refreshNow } from "../refreshing.js";
import { findPair } from "../pairs.js";
import { beforeAfter } from "../slider.js";

const MAX_VERSIONS = 100;
const JOBS_SHOWN = 8;

export function open(name) {
  const state = { model: null, jobs: [], versions: [], earlier: false, report: null, relapse: null };
  const parts = {
    summary: h("p.tagline"), described: h("div.described"), actions: h("div.actions"), aliases: h("div"), jobs: h("ul.jobs", { "aria-label": `Jobs of ${name} in progress` }), ended: h("ul.jobs", { "aria-label": `Jobs of ${name} that ended` }),
    labels: h("ul.labels", { "aria-label": `Labels of ${name}` }), lineage: h("div"), plots: h("div.plots"), slider: h("div"), versions: h("div"), relapse: h("div.plots"),
  };
  const seeds = new Map();
  const node = h(
    "div", {},
    h("p.breadcrumb", {}, h("a", { href: "/" }, "Models"), " /"),
    h("div.page-head", {}, h("h1", {}, name), parts.actions),
    parts.summary, parts.described, parts.aliases,
    card("jobs", "In progress", null, parts.jobs),
    card("labels", "Labels", "a face each, drawn by the head; click it for another", parts.labels),
    h("div.with-versions", { hidden: true },
      h("div.side-by-side", {},
        card("before-after", "Before and after", h("a", { href: `${modelPath(name)}/compare` }, "compare in full"), parts.slider),
        card("lineage", "Lineage", "which version holds which label", parts.lineage)),
      card("plots", "Over the versions", null, parts.plots),
      h("div.relapse-part", {}, card("relapse", "Did it stay forgotten?", h("a", { href: `${modelPath(name)}/relapse` }, "all of it"), parts.relapse)),
      card("versions", "Versions", null, parts.versions)),
    card("ended", "Jobs", h("a", { href: `/jobs?model=${encodeURIComponent(name)}` }, "all of them"), parts.ended),
    h("p.json", {}, h("a", { href: modelApi(name) }, "This model as JSON")),
  );

  const fetchJobs = async () => (await get(`/v1/jobs?model=${encodeURIComponent(state.model.id)}&limit=50`)).data;

  async function fetchModel() {
    const before = state.model;
    state.model = await get(modelApi(name));
    if (before && JSON.stringify(before) === JSON.stringify(state.model)) return;
    const { model } = state;
    if (model.head === null) return;
    const [page, report, relapse] = await Promise.all([
      get(`${modelApi(name)}/versions?limit=${MAX_VERSIONS}`),
      getIfAny(`${modelApi(name)}/versions/${model.head}/report`),
      get(`${modelApi(name)}/relapse`),
    ]);
    Object.assign(state, { versions: page.data.reverse(), earlier: page.has_more, report, relapse });
  }

  async function refresh(turn) {
    if (state.model === null || (turn % 2 === 0 && !isBusy())) await fetchModel();
    const before = JSON.stringify(state.jobs);
    if (turn === 0 || turn % 2 === 1 || isBusy()) state.jobs = await fetchJobs();
    if (turn > 0 && JSON.stringify(state.jobs) !== before) await fetchModel();
    render();
    return isBusy() ? BUSY_MS : IDLE_MS;
  }

  /** Fetch the versions again, although the model is as it was. */
  function fetchAgain() {
    state.model = null;
    refreshNow();
  }

  const isBusy = () => state.jobs.some((job) => !job.done);

  function render() {
    const { model, versions } = state;
    const head = versions.at(-1);
    document.title = `${model.name}${isBusy() ? " (busy)" : ""} · Palimpsest`;
    setText(parts.summary, `Learns from ${model.dataset}. ${model.size_policy === "auto" ? "Resized after each learn and forget. " : ""}${head ? `Version ${model.head} with ${shortNumber(head.parameters)} parameters.` : "It has no version yet: let it learn something."}`);
    renderOnce(parts.actions, [model, versions.length], () => actions());
    renderOnce(parts.described, [model.description, model.metadata], () => describedBy(model));
    renderOnce(parts.aliases, model.aliases, () => Object.keys(model.aliases).length ? h("ul.aliases", { "aria-label": "Aliases" }, Object.entries(model.aliases).map(([alias, number]) =>
      h("li", {}, h("span.tag", {}, alias), ` is version ${number} `, h("button.small", { type: "button", click: () => openRollBack(model, alias), "aria-label": `Roll back ${alias}` }, "roll back…")))) : []);
    const ended = state.jobs.filter((job) => job.done);
    // The last job stays on top if it changed nothing, until another one succeeds.
    const last = ended.slice(0, 1).filter((job) => job.state !== "succeeded" && job === state.jobs[0]);
    const current = [...last, ...state.jobs.filter((job) => !job.done).reverse()];
    updateChildren(parts.jobs, current, (job) => job.id, jobItem, updateJobItem);
    updateChildren(parts.ended, ended.slice(0, JOBS_SHOWN), (job) => job.id, jobItem, updateJobItem);
    setText(node.querySelector("#jobs"), isBusy() ? "In progress" : "The last job changed nothing");
    node.querySelector("[aria-labelledby=jobs]").hidden = current.length === 0;
    node.querySelector("[aria-labelledby=ended]").hidden = ended.length === 0;
    updateChildren(parts.labels, model.labels, (label) => label.name, (label) => labelTile(label), updateLabelTile);
    node.querySelector(".with-versions").hidden = !head;
    if (!head) return;
    renderOnce(parts.lineage, [versions, model.aliases], () => lineage(model, versions));
    const why = [head.figures.retained, head.figures.forgotten].find((figure) => figure.value !== null && figure.reason)?.reason;
    renderOnce(parts.plots, versions, () => [h("div", {}, h("h3", {}, "Accuracy"), accuracyPlot(versions), h("p.note", {}, "Images that a separate classifier, the judge, recognises as their label.", why && ` No verdict: ${why}.`)), h("div", {}, h("h3", {}, "Parameters"), sizePlot(versions))]);
    const forgotten = state.relapse?.labels ?? [];
    node.querySelector(".relapse-part").hidden = forgotten.length === 0;
    renderOnce(parts.relapse, state.relapse, () => forgotten.map((one) => h("div", {}, h("h3", {}, one.label, one.relapsed && h("span.verdict.missed", {}, " relapsed")), relapsePlot(one))));
    renderOnce(parts.versions, [versions, model.aliases], () => [versionList(model, versions, { promote: (version) => openPromote(model, versions, version.number), remove: (version) => openDeleteVersion(model, version, fetchAgain), describe: (version) => openDescribe(`Describe version ${version.number}`, version.links.self, version, fetchAgain) }), state.earlier && h("p.note", {}, `The newest ${MAX_VERSIONS} versions.`)]);
    renderOnce(parts.slider, versions, () => comparison(model, versions));
  }

  function actions() {
    const { model, versions } = state;
    const button = (text, click, { needsHead = true, className = "plain" } = {}) => h(`button.${className}`, { type: "button", click, disabled: needsHead && model.head === null }, text);
    return [
      button("Learn…", () => openLearn(model), { needsHead: false, className: "primary" }),
      button("Forget…", () => openForget(model, versions)),
      button("Resize…", () => openResize(model)),
      button("Evaluate…", () => openEvaluate(model, versions)),
      button("Promote…", () => openPromote(model, versions)),
      model.head === null ? null : h("a.button.plain", { href: `${modelPath(name)}/sample` }, "Draw images"),
      button("Describe…", () => openDescribe(`Describe ${model.name}`, modelApi(name), model, refreshNow), { needsHead: false }),
      button("Delete…", () => openDelete(model, versions), { needsHead: false }),
    ];
  }

  function labelTile(label) {
    return h("li.label", {}, h("div.place"), h("span.name", {}, label.name), h("span.status"), h("span.accuracy"), h("span.generation"), h("div.act"));
  }

  function updateLabelTile(tile, label) {
    const { model, report, versions } = state;
    const relapsed = model.relapsed.includes(label.name);
    tile.dataset.status = label.status;
    tile.classList.toggle("relapsed", relapsed);
    setText(tile.querySelector(".status"), relapsed ? "relapsed" : label.status);
    tile.querySelector(".status").title = relapsed ? "Forgotten, but the newest version draws it again" : "";
    const place = tile.querySelector(".place");
    const seed = seeds.get(label.name) ?? 0;
    showFace(place, model, label, {
      seed,
      onNext: () => {
        seeds.set(label.name, seed + 1);
        updateLabelTile(tile, label);
      },
      onError: () => delete place.dataset.face, // the version may have just been revoked
    });
    const measured = report?.retained.labels[label.name] ?? report?.forgotten.labels[label.name];
    setText(tile.querySelector(".accuracy"), measured ? (measured.value === null ? "not measured" : `${isHeld(label) ? "" : "drawn "}${percent(measured.value)}`) : "");
    const by = versions.find((version) => version.number === label.forgotten_version);
    const guarantee = label.status === "forgotten" ? by?.guarantee : null;
    setText(tile.querySelector(".generation"), [guarantee, label.generation > 1 && `learned ${label.generation} times`, label.expires_at && `until ${moment(label.expires_at)}`].filter(Boolean).join(", "));
    renderOnce(tile.querySelector(".act"), [label.status, label.forgotten_by, model], () =>
      isHeld(label) ? h("button.small", { type: "button", "aria-label": `Forget ${label.name}`, click: () => openForget(model, versions, [label.name]) }, "forget…")
        : label.forgotten_by ? h("a", { href: `/jobs/${label.forgotten_by}` }, "receipt") : []);
  }

  return { node, refresh };
}

/** Two versions that may be drawn, with the images of a label on top of each other. */
function comparison(model, versions) {
  const drawable = versions.filter(isDrawable);
  if (drawable.length < 2) return savedPictures(model, versions);
  const options = drawable.map((version) => ({ value: version.number, text: `version ${version.number}` }));
  const [from, to] = [select(options, drawable.at(-2).number), select(options, drawable.at(-1).number)];
  from.id = "slider-from";
  to.id = "slider-to";
  const label = h("select", { id: "slider-label" });
  const place = h("div");
  const find = (control) => drawable.find((version) => version.number === Number(control.value));
  const show = () => {
    const shared = find(from).labels.filter((name) => find(to).labels.includes(name));
    const chosen = shared.includes(label.value) ? label.value : shared[0];
    label.replaceChildren(...shared.map((name) => h("option", { value: name, selected: name === chosen }, name)));
    renderOnce(place, [from.value, to.value, chosen], () => {
      if (!chosen) return h("p.note", {}, "These versions share no label.");
      const picture = (control) => ({ src: imagesAddress(model.name, control.value, chosen, 0, 2, "4x8"), caption: `version ${control.value}` });
      return [beforeAfter({ before: picture(from), after: picture(to), name: chosen }), h("p.note", {}, `Seeds 0 to 31, not selected. ${count(shared.length, "label")} in both.`)];
    });
  };
  for (const control of [from, to, label]) control.addEventListener("change", show);
  show();
  const forgot = versions.some((version) => version.operation === "forget");
  return [forgot && h("details", {}, h("summary", {}, "What the newest forget removed"), savedPictures(model, versions)), h("div.row.tools", {}, h("label", { for: "slider-from" }, "Before"), from, h("label", { for: "slider-to" }, "After"), to, h("label", { for: "slider-label" }, "Label"), label), place];
}

/** Where older versions may not be drawn from: the pictures that the newest forget saved of what its labels drew. */
function savedPictures(model, versions) {
  const to = versions.findLast((version) => version.operation === "forget");
  const from = versions.find((version) => version.number === to?.parent);
  if (!from) return h("p.note", {}, "There will be something to compare once there are two versions.");
  const gone = from.labels.filter((label) => !to.labels.includes(label));
  const pairs = [...gone, ...to.labels].map((label) => [label, ...findPair(model.name, label, from, to)]).filter(([, before, after]) => before && after);
  const shown = pairs.slice(0, Math.max(gone.length, 2));
  return [
    ...shown.map(([label, before, after]) => h("div", {}, h("h3", {}, label), beforeAfter({ before, after, name: label, height: before.rows * 56 }))),
    h("p.note", {}, `Version ${from.number} holds a label that was forgotten: nobody can draw from it any more. ${shown.length ? "These pictures were saved with the forget." : "No pictures of it are kept."}`),
  ];
}
