// The forms for what can be done with a model. Each says what will happen before it happens.

import { get, getCatalog, modelApi, post, put, remove, Refused } from "./api.js";
import { field, labelChoice, openDialog, select } from "./dialogs.js";
import { h, renderOnce } from "./elements.js";
import { capitalize, count, duration, list, versions as versionsText, words } from "./format.js";
import { isHeld } from "./faces.js";
import { jobPath } from "./jobs.js";

const goToJob = (job) => location.assign(jobPath(job));

/** The strategies for an operation, the default one first. */
const strategiesOf = (catalog, operation, fits) =>
  catalog.strategies.filter((one) => one.operation === operation && fits(one)).sort((one, other) => other.default - one.default);

const recentJobs = async () => (await get("/v1/jobs?state=succeeded&limit=100")).data;

/** What it costs, by what the last such jobs took. */
function costText(jobs, operation, strategy, model) {
  const similar = jobs.filter((job) => job.operation === operation && (!strategy || job.strategy === strategy) && job.cost?.seconds !== undefined);
  const own = similar.filter((job) => job.model === model.id);
  const used = (own.length ? own : similar).slice(0, 5).map((job) => job.cost.seconds);
  const name = `${operation}${strategy ? ` by ${words(strategy)}` : ""}`;
  if (used.length === 0) return `No ${name} has finished here yet, so its time is not known.`;
  const [least, most] = [Math.min(...used), Math.max(...used)];
  const range = duration(least) === duration(most) ? duration(most) : `${duration(least)} to ${duration(most)}`;
  const where = own.length ? "of this model" : "of other models";
  return `The last ${used.length === 1 ? `${name} ${where} took` : `${used.length} such jobs ${where} took`} ${range} of work.`;
}

/** The section that says what will happen, and the function that brings it up to date. */
function consequences(describe) {
  const items = h("ul.consequences", { "aria-live": "polite" });
  const node = h("div.what-happens", {}, h("h3", {}, "What will happen"), items);
  const update = () => {
    const lines = describe().filter(Boolean);
    renderOnce(items, lines, () => lines.map((line) => h("li", {}, line)));
  };
  return { node, update };
}

/** The params of a strategy as JSON, with their defaults in a table. */
function paramsField() {
  const text = h("textarea", { rows: "2", spellcheck: "false", placeholder: "{}" });
  const table = h("tbody");
  const node = h("details", {}, h("summary", {}, "Params"), field("Params that differ from their defaults, as JSON", text),
    h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Params of the strategy" }, h("table.params", {}, h("thead", {}, h("tr", {}, ["param", "default", "meaning"].map((name) => h("th", { scope: "col" }, name)))), table)));
  const show = (strategy) =>
    renderOnce(table, strategy?.name, () =>
      Object.entries(strategy?.params.properties ?? {}).map(([name, schema]) =>
        h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, h("code", {}, JSON.stringify(schema.default ?? null))), h("td.meaning", {}, schema.description ?? ""))));
  const read = () => {
    if (!text.value.trim()) return {};
    try {
      return JSON.parse(text.value);
    } catch {
      throw new Refused(422, { detail: "The params are not valid JSON." });
    }
  };
  return { node, show, read };
}

const optionOf = (strategy) => ({
  value: strategy.name,
  text: `${words(strategy.name)}${strategy.guarantee ? ` (${strategy.guarantee})` : ""}${strategy.default ? ", the default" : ""}`,
});

function refill(control, options) {
  const key = JSON.stringify(options);
  if (control.dataset.options === key) return;
  control.dataset.options = key;
  control.replaceChildren(...options.map(({ value, text }) => h("option", { value }, text)));
  control.selectedIndex = 0;
}

export async function openLearn(model) {
  const [catalog, datasets, jobs] = await Promise.all([getCatalog(), get("/v1/datasets"), recentJobs()]);
  const dataset = select(datasets.data.map((one) => ({ value: one.name, text: `${one.name}: ${one.title}` })), model.dataset);
  const retention = select([
    { value: "permanent", text: "permanent: in the main network" },
    { value: "temporary", text: "temporary: in a small network of its own, exact to forget" },
  ]);
  const strategy = select([]);
  const params = paramsField();
  const labelPlace = h("div");
  let choice = null;
  const known = new Map(model.labels.map((label) => [label.name, label]));
  const summary = h("p.note");
  const strategies = () => {
    const chosen = choice?.chosen() ?? [];
    const merging = retention.value === "permanent" && chosen.length > 0 && chosen.every((name) => known.get(name)?.status === "temporary");
    return strategiesOf(catalog, "learn", (one) => one.retention === retention.value && one.merges_temporary === merging);
  };
  const findStrategy = () => strategies().find((one) => one.name === strategy.value) ?? strategies()[0];
  const what = consequences(() => {
    const chosen = choice.chosen();
    if (chosen.length === 0) return ["Choose at least one label."];
    const again = chosen.filter((name) => known.get(name)?.status === "forgotten");
    const merged = chosen.filter((name) => known.get(name)?.status === "temporary");
    return [
      `A new version${model.head ? ` ${model.head + 1}` : " 1"} draws ${list(chosen)}; it becomes the head if it passes the acceptance criteria. No version becomes undrawable.`,
      again.length && `${list(again)} was forgotten and is learned anew, from its images: the versions that were revoked stay revoked.`,
      merged.length && retention.value === "permanent" && `${list(merged)} becomes permanent: from then on forgetting it is approximate.`,
      retention.value === "temporary" ? "Each label gets a network of its own; dropping it later forgets the label exactly." : "Forgetting a permanent label later is approximate, unless you retrain.",
      costText(jobs, "learn", findStrategy()?.name, model),
    ];
  });
  const update = () => {
    const entry = datasets.data.find((one) => one.name === dataset.value);
    renderOnce(labelPlace, [dataset.value, retention.value], () => {
      const free = entry.labels.filter((name) => {
        const status = known.get(name)?.status ?? "absent";
        return status === "absent" || status === "forgotten" || (status === "temporary" && retention.value === "permanent");
      });
      choice = labelChoice("Labels to learn", free.map((name) => ({ name })), [], ({ name }) => (known.get(name)?.status ?? "absent") === "absent" ? null : known.get(name).status);
      return choice.node;
    });
    refill(strategy, strategies().map(optionOf));
    summary.textContent = findStrategy()?.summary ?? "";
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Learn labels in ${model.name}`, action: "Learn", update, done: goToJob,
    body: [labelPlace, field("From dataset", dataset), field("Retention", retention), field("Strategy", strategy), summary, params.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/learn`, { labels: choice.chosen(), dataset: dataset.value, retention: retention.value, strategy: strategy.value || undefined, params: params.read() }, key),
  });
}

export async function openForget(model, versions, preselected = []) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const held = model.labels.filter(isHeld);
  const choice = labelChoice("Labels to forget", held, preselected, (label) => (label.status === "temporary" ? "temporary" : null));
  const strategy = select([]);
  const params = paramsField();
  const purge = h("input", { type: "checkbox", id: "purge" });
  const reference = h("input", { maxlength: "200", autocomplete: "off" });
  const summary = h("p.note");
  const statusOf = new Map(held.map((label) => [label.name, label.status]));
  const dropsOnly = () => choice.chosen().length > 0 && choice.chosen().every((name) => statusOf.get(name) === "temporary");
  const strategies = () => strategiesOf(catalog, "forget", (one) => (one.retention === "temporary") === dropsOnly());
  const findStrategy = () => strategies().find((one) => one.name === strategy.value) ?? strategies()[0];
  const what = consequences(() => {
    const chosen = choice.chosen();
    if (chosen.length === 0) return ["Choose at least one label."];
    const lost = versions.filter((one) => !one.revoked_by && !one.purged_by && one.labels.some((name) => chosen.includes(name)));
    const named = Object.entries(model.aliases).filter(([, number]) => lost.some((one) => one.number === number)).map(([name]) => name);
    const used = findStrategy();
    const exact = used?.guarantee === "exact";
    return [
      `Version ${model.head + 1} no longer draws ${list(chosen)}. It becomes the head if it passes the acceptance criteria.`,
      lost.length && `${capitalize(versionsText(lost.map((one) => one.number)))} can no longer be drawn from or downloaded, by anybody: ${lost.length === 1 ? "it holds" : "they hold"} a label that you forget. This cannot be undone.`,
      named.length && `The alias ${list(named)} names such a version; requests by it are refused until it is promoted to another.`,
      exact
        ? dropsOnly() ? "Exact: the networks of these labels are dropped, and no other network changes." : "Exact: the weights are made anew from a version that never saw these labels."
        : "Approximate: the weights are changed so that they do not draw the labels. They descend from weights that had learned them, and no measurement proves that nothing is left.",
      purge.checked
        ? "The files of the older versions that held the labels, and the pictures of what they drew, are deleted for good. The receipt lists them."
        : "The files of older versions are kept, though nobody may use them, and so are pictures of what the labels drew before, as evidence. Purge deletes both.",
      "You get a signed receipt that says what was done, store by store.",
      costText(jobs, "forget", used?.name, model),
    ];
  });
  const update = () => {
    refill(strategy, strategies().map(optionOf));
    summary.textContent = findStrategy()?.summary ?? "";
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Forget labels of ${model.name}`, action: "Forget", dangerous: true, update, done: goToJob,
    body: [choice.node, field("Strategy", strategy), summary,
      h("label.choice", {}, purge, h("span", {}, "Purge: delete the files of older versions and the pictures of what the labels drew")),
      field("Your reference (optional)", reference, "Such as the number of an erasure request; it is signed with the receipt."),
      params.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/forget`, { labels: choice.chosen(), strategy: strategy.value || undefined, params: params.read(), purge: purge.checked, ...(reference.value.trim() ? { reference: reference.value.trim() } : {}) }, key),
  });
}

export async function openResize(model) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const policies = [...new Set(strategiesOf(catalog, "resize", () => true).map((one) => one.policy))];
  const texts = { expand: "expand: add units, as room to learn", prune: "prune: remove the least important units", auto: "auto: the smallest width that keeps what it draws" };
  const policy = select(policies.map((value) => ({ value, text: texts[value] ?? value })));
  const strategy = select([]);
  const params = paramsField();
  const summary = h("p.note");
  const strategies = () => strategiesOf(catalog, "resize", (one) => one.policy === policy.value);
  const findStrategy = () => strategies().find((one) => one.name === strategy.value) ?? strategies()[0];
  const what = consequences(() => [
    `Version ${model.head + 1} has another width and the same labels. It becomes the head if it passes the acceptance criteria.`,
    "No version becomes undrawable. Forgotten labels are measured again: one that comes back is marked as relapsed.",
    costText(jobs, "resize", findStrategy()?.name, model),
  ]);
  const update = () => {
    refill(strategy, strategies().map(optionOf));
    summary.textContent = findStrategy()?.summary ?? "";
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Resize ${model.name}`, action: "Resize", update, done: goToJob,
    body: [field("Policy", policy), field("Strategy", strategy), summary, params.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/resize`, { policy: policy.value, strategy: strategy.value || undefined, params: params.read() }, key),
  });
}

export async function openEvaluate(model, versions) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const drawable = versions.filter((one) => !one.revoked_by && !one.purged_by);
  const version = select(drawable.map((one) => ({ value: one.number, text: `version ${one.number}${one.number === model.head ? ", the head" : ""}` })), model.head);
  const params = paramsField();
  const chosen = strategiesOf(catalog, "evaluate", () => true)[0];
  params.show(chosen);
  const what = consequences(() => [
    `Version ${version.value} gets a full report: quality, forgetting and capacity, beside networks that are retrained without the forgotten labels.`,
    "No version changes, and other jobs of the model may run meanwhile.",
    costText(jobs, "evaluate", null, model),
  ]);
  openDialog({
    title: `Evaluate ${model.name}`, action: "Evaluate", update: what.update, done: goToJob,
    body: [field("Version", version), params.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/evaluate`, { version: Number(version.value), params: params.read() }, key),
  });
}

/** Name a version by an alias, such as `production`. */
export function openPromote(model, versions, preselected = model.head) {
  const usable = versions.filter((one) => !one.purged_by);
  const version = select(usable.map((one) => ({ value: one.number, text: `version ${one.number}${one.revoked_by ? " (revoked: it will be refused)" : ""}` })), preselected);
  const alias = h("input", { required: true, maxlength: "64", autocomplete: "off", list: "aliases", value: Object.keys(model.aliases)[0] ?? "production" });
  const reason = h("input", { maxlength: "500", autocomplete: "off" });
  const what = consequences(() => {
    const before = model.aliases[alias.value.trim()];
    return [
      before ? `The alias ${alias.value.trim()} moves from version ${before} to version ${version.value}.` : `A new alias ${alias.value.trim()} names version ${version.value}.`,
      "Clients that name the alias get images of that version from now on. Nothing else changes, and it can be rolled back.",
    ];
  });
  openDialog({
    title: `Promote a version of ${model.name}`, action: "Promote", update: what.update,
    body: [field("Alias", alias, "A name that clients use in place of a number."), h("datalist", { id: "aliases" }, Object.keys(model.aliases).map((name) => h("option", { value: name }))), field("Version", version), field("Reason (optional)", reason), what.node],
    run: async () => {
      const path = `${modelApi(model.name)}/aliases/${encodeURIComponent(alias.value.trim())}`;
      const headers = model.aliases[alias.value.trim()] ? { "If-Match": await etagOf(path) } : { "If-None-Match": "*" };
      return put(path, { version: Number(version.value), ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) }, headers);
    },
  });
}

async function etagOf(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  return answer.headers.get("ETag") ?? "";
}

/** Set an alias back to the version that it named before. */
export async function openRollBack(model, alias) {
  const path = `${modelApi(model.name)}/aliases/${encodeURIComponent(alias)}`;
  const history = (await get(`${path}/history?limit=10`)).data;
  const reason = h("input", { maxlength: "500", autocomplete: "off" });
  const steps = history.map((one) => h("li", {}, `${one.action}${one.to === null ? "" : `: version ${one.to}`}${one.from === null ? "" : ` after version ${one.from}`}${one.reason ? ` (${one.reason})` : ""}`));
  const what = consequences(() => [
    `The alias ${alias} names version ${model.aliases[alias]} now. It goes back to the version that it named before, and that may still be drawn from.`,
    "Versions that hold a forgotten label are passed over: nothing rolls back into what was forgotten. If no version is left, the service refuses.",
  ]);
  openDialog({
    title: `Roll back ${alias}`, action: "Roll back", update: what.update,
    body: [h("h3", {}, "Its history, newest first"), h("ul.history", {}, steps), field("Reason (optional)", reason), what.node],
    run: (key) => post(`${path}/rollback`, reason.value.trim() ? { reason: reason.value.trim() } : {}, key),
  });
}

export function openDelete(model, versions) {
  const name = h("input", { autocomplete: "off", required: true });
  const purge = h("input", { type: "checkbox", id: "purge" });
  const what = consequences(() => [
    `The model and its ${count(versions.length, "version")} are gone at once, for every client, and cannot be brought back. Queued jobs are cancelled.`,
    "Its jobs and the receipts of what it forgot stay.",
    purge.checked ? "All its files are deleted now, and you get a signed receipt of that." : "Its files are deleted by the service later, when nothing refers to them.",
  ]);
  openDialog({
    title: `Delete ${model.name}`, action: "Delete", dangerous: true, update: what.update, done: () => location.assign("/"),
    body: [field(`Type ${model.name} to confirm`, name), h("label.choice", {}, purge, h("span", {}, "Purge: delete all files at once, with a receipt")), what.node],
    run: async () => {
      if (name.value.trim() !== model.name) throw new Refused(422, { detail: `Type the name of the model, ${model.name}.` });
      return remove(`${modelApi(model.name)}${purge.checked ? "?purge=true" : ""}`);
    },
  });
}

export async function openCreate() {
  const [catalog, datasets] = await Promise.all([getCatalog(), get("/v1/datasets")]);
  const name = h("input", { required: true, maxlength: "64", autocomplete: "off", placeholder: "numbers" });
  const dataset = select(datasets.data.map((one) => ({ value: one.name, text: `${one.name}: ${one.title}` })));
  const network = select(catalog.architectures.map((one) => ({ value: one.name, text: `${one.name}: ${one.summary}` })));
  const what = consequences(() => {
    const entry = datasets.data.find((one) => one.name === dataset.value);
    return [`The model starts empty. It may learn the ${count(entry.labels.length, "label")} of ${entry.name}, and those of other datasets.`, entry.bundled || entry.images ? "Its images are here." : "Its images are not bundled: a worker needs them on its disk (PALIMPSEST_DATA), or downloads them."];
  });
  openDialog({
    title: "Create a model", action: "Create", update: what.update, done: (model) => location.assign(`/models/${model.name}`),
    body: [field("Name", name, "1 to 64 letters, digits, dots, dashes or underscores."), field("Dataset", dataset), field("Network", network), what.node],
    run: (key) => post("/v1/models", { name: name.value.trim(), dataset: dataset.value, network: { architecture: network.value } }, key),
  });
}

/** Delete the files of a version that is not the head. done: called when they are gone. */
export function openDeleteVersion(model, version, done) {
  const named = Object.entries(model.aliases).filter(([, number]) => number === version.number).map(([name]) => name);
  const what = consequences(() => [
    `The files of version ${version.number} are deleted, except its report and its manifest. Nobody can draw from it any more, and it cannot be brought back.`,
    "Its place in the lineage stays, and so do the receipts of what the model forgot.",
    named.length && `The alias ${list(named)} names it: the service refuses until the alias names another version.`,
  ]);
  openDialog({
    title: `Delete version ${version.number}?`, action: "Delete", dangerous: true, update: what.update, done, body: [what.node],
    run: () => remove(`${modelApi(model.name)}/versions/${version.number}`),
  });
}
