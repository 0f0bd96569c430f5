// The forms for jobs of a model: learn, forget, resize, evaluate. Each says what will happen before it happens.

import { get, getAll, getCatalog, modelApi, post, Refused } from "./api.js";
import { consequences, field, labelChoice, openDialog, select } from "./dialogs.js";
import { h, renderOnce } from "./elements.js";
import { capitalize, duration, list, moment, origin, versions as versionsText, words } from "./format.js";
import { isHeld } from "./faces.js";
import { jobPath } from "./jobs.js";

const goToJob = (job) => location.assign(jobPath(job));

/** The strategies for an operation, the default one first. */
const strategiesOf = (catalog, operation, fits) =>
  catalog.strategies.filter((one) => one.operation === operation && fits(one)).sort((one, other) => other.default - one.default);

/** Whether the strategy works on networks of the model's architecture. */
const isFor = (strategy, model) => !strategy.architectures || strategy.architectures.includes(model.network.architecture);

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
  text: `${words(strategy.name)}${strategy.guarantee ? ` (${strategy.guarantee})` : ""}${strategy.default ? ", the default" : ""}${strategy.package ? `, ${origin(strategy)}` : ""}`,
});

/** What a strategy does, and whose code it is. */
const summaryOf = (strategy) =>
  strategy ? `${strategy.summary}${strategy.package ? ` This strategy comes ${origin(strategy)}, which is not a part of Palimpsest.` : ""}` : "";

function refill(control, options) {
  const key = JSON.stringify(options);
  if (control.dataset.options === key) return;
  control.dataset.options = key;
  control.replaceChildren(...options.map(({ value, text }) => h("option", { value }, text)));
  control.selectedIndex = 0;
}

/** In which queue a job waits, and before which others: for those who run several kinds of workers. */
function queueing(model, ownPriority = 0) {
  const queue = h("input", { maxlength: "32", autocomplete: "off", pattern: "[a-z][a-z0-9\\-]{0,31}", placeholder: model.queue });
  const priority = h("input", { type: "number", min: "-10", max: "10", placeholder: String(ownPriority) });
  const node = h("details", {}, h("summary", {}, "Queue and priority"),
    field("Queue", queue, "Only workers that serve it take the job."),
    field("Priority", priority, "From -10 to 10. Jobs with a larger one mostly run first."));
  const read = () => ({ ...(queue.value.trim() ? { queue: queue.value.trim() } : {}), ...(priority.value ? { priority: Number(priority.value) } : {}) });
  return { node, read };
}

const RESIZES = { expand: "expand: add units, as room to learn", search: "search: add as many units as are worth their parameters", prune: "prune: remove the least important units", auto: "auto: the smallest width that keeps what it draws" };

const policiesOf = (catalog) => [...new Set(strategiesOf(catalog, "resize", () => true).map((one) => one.policy))];

/** Which resize follows a job. `describe` says what will happen, given whether the job changes the main network. */
function followingResize(catalog, model) {
  const isAuto = model.size_policy === "auto";
  const control = select([
    { value: "", text: isAuto ? "as the model says: auto" : "no" },
    ...policiesOf(catalog).map((value) => ({ value, text: RESIZES[value] ?? value })),
    ...(isAuto ? [{ value: "none", text: "no" }] : []),
  ], "");
  const policy = (changesMain) => (control.value === "" && isAuto && changesMain ? "auto" : control.value === "none" ? "" : control.value);
  const describe = (changesMain) => policy(changesMain) && `Then a job of its own resizes the network by ${policy(changesMain)}, if this one succeeds and a permanent label is left.`;
  const read = () => (control.value === "" ? {} : { resize: control.value === "none" ? null : { policy: control.value } });
  return { node: field("Resize afterwards", control), describe, read };
}

export async function openLearn(model) {
  const [catalog, datasets, jobs] = await Promise.all([getCatalog(), getAll("/v1/datasets"), recentJobs()]);
  const dataset = select(datasets.map((one) => ({ value: one.name, text: `${one.name}: ${one.title}` })), model.dataset);
  const retention = select([
    { value: "permanent", text: "permanent: in the main network" },
    { value: "temporary", text: "temporary: in a small network of its own, exact to forget" },
  ]);
  const expiry = select([{ value: "", text: "when somebody asks for it" }, { value: 3600, text: "after an hour" }, { value: 86400, text: "after a day" }, { value: 604800, text: "after a week" }, { value: 2592000, text: "after 30 days" }, { value: "own", text: "after some hours…" }], "");
  const hours = h("input", { type: "number", min: "1", max: "8760", value: "12", required: true });
  const expiryField = h("div.fields", {}, field("Forget them", expiry), field("Hours", hours));
  const seconds = () => (retention.value !== "temporary" || expiry.value === "" ? null : expiry.value === "own" ? Math.round(Number(hours.value) * 3600) : Number(expiry.value));
  const strategy = select([]);
  const params = paramsField();
  const resize = followingResize(catalog, model);
  const order = queueing(model);
  const labelPlace = h("div");
  let choice = null;
  const known = new Map(model.labels.map((label) => [label.name, label]));
  const summary = h("p.note");
  const strategies = () => {
    const chosen = choice?.chosen() ?? [];
    const merging = retention.value === "permanent" && chosen.length > 0 && chosen.every((name) => known.get(name)?.status === "temporary");
    return strategiesOf(catalog, "learn", (one) => isFor(one, model) && one.retention === retention.value && one.merges_temporary === merging);
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
      seconds() && `The service forgets ${list(chosen)} by itself, with a job and a receipt, ${expiry.selectedOptions[0].value === "own" ? `${hours.value} hours` : expiry.selectedOptions[0].text.replace("after ", "")} after the labels were learned: about ${moment(new Date(Date.now() + seconds() * 1000).toISOString())}.`,
      resize.describe(retention.value === "permanent"),
      costText(jobs, "learn", findStrategy()?.name, model),
    ];
  });
  const update = () => {
    const entry = datasets.find((one) => one.name === dataset.value);
    expiryField.hidden = retention.value !== "temporary";
    hours.closest(".field").hidden = expiry.value !== "own";
    hours.disabled = expiryField.hidden || expiry.value !== "own"; // what is not shown is not checked
    renderOnce(labelPlace, [dataset.value, retention.value], () => {
      const free = entry.labels.filter((name) => {
        const status = known.get(name)?.status ?? "absent";
        return status === "absent" || status === "forgotten" || (status === "temporary" && retention.value === "permanent");
      });
      choice = labelChoice("Labels to learn", free.map((name) => ({ name })), choice?.chosen() ?? [], ({ name }) => (known.get(name)?.status ?? "absent") === "absent" ? null : known.get(name).status);
      return choice.node;
    });
    refill(strategy, strategies().map(optionOf));
    summary.textContent = summaryOf(findStrategy());
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Learn labels in ${model.name}`, action: "Learn", update, done: goToJob,
    body: [labelPlace, field("From dataset", dataset), field("Retention", retention), expiryField, field("Strategy", strategy), summary, params.node, resize.node, order.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/learn`, { labels: choice.chosen(), dataset: dataset.value, retention: retention.value, ...(seconds() ? { expires_in: seconds() } : {}), strategy: strategy.value || undefined, params: params.read(), ...resize.read(), ...order.read() }, key),
  });
}

export async function openForget(model, versions, preselected = []) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const held = model.labels.filter(isHeld);
  const choice = labelChoice("Labels to forget", held, preselected, (label) => (label.status === "temporary" ? "temporary" : null));
  const strategy = select([]);
  const params = paramsField();
  const resize = followingResize(catalog, model);
  const order = queueing(model, 5);
  const purge = h("input", { type: "checkbox", id: "purge" });
  const reference = h("input", { maxlength: "200", autocomplete: "off" });
  const summary = h("p.note");
  const statusOf = new Map(held.map((label) => [label.name, label.status]));
  const dropsOnly = () => choice.chosen().length > 0 && choice.chosen().every((name) => statusOf.get(name) === "temporary");
  const strategies = () => strategiesOf(catalog, "forget", (one) => isFor(one, model) && (one.retention === "temporary") === dropsOnly());
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
      resize.describe(!dropsOnly()),
      costText(jobs, "forget", used?.name, model),
    ];
  });
  const update = () => {
    refill(strategy, strategies().map(optionOf));
    summary.textContent = summaryOf(findStrategy());
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Forget labels of ${model.name}`, action: "Forget", dangerous: true, update, done: goToJob,
    body: [choice.node, field("Strategy", strategy), summary,
      h("label.choice", {}, purge, h("span", {}, "Purge: delete the files of older versions and the pictures of what the labels drew")),
      field("Your reference (optional)", reference, "Such as the number of an erasure request; it is signed with the receipt."),
      params.node, resize.node, order.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/forget`, { labels: choice.chosen(), strategy: strategy.value || undefined, params: params.read(), purge: purge.checked, ...resize.read(), ...order.read(), ...(reference.value.trim() ? { reference: reference.value.trim() } : {}) }, key),
  });
}

export async function openResize(model) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const policy = select(policiesOf(catalog).map((value) => ({ value, text: RESIZES[value] ?? value })));
  const strategy = select([]);
  const params = paramsField();
  const order = queueing(model);
  const summary = h("p.note");
  const strategies = () => strategiesOf(catalog, "resize", (one) => one.policy === policy.value);
  const findStrategy = () => strategies().find((one) => one.name === strategy.value) ?? strategies()[0];
  const what = consequences(() => [
    `Version ${model.head + 1} has another width and the same labels. It becomes the head if it passes the acceptance criteria.`,
    "No version becomes undrawable. Forgotten labels are measured again: one that comes back is marked as relapsed, if the judge meets its own thresholds.",
    costText(jobs, "resize", findStrategy()?.name, model),
  ]);
  const update = () => {
    refill(strategy, strategies().map(optionOf));
    summary.textContent = summaryOf(findStrategy());
    params.show(findStrategy());
    what.update();
  };
  openDialog({
    title: `Resize ${model.name}`, action: "Resize", update, done: goToJob,
    body: [field("Policy", policy), field("Strategy", strategy), summary, params.node, order.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/resize`, { policy: policy.value, strategy: strategy.value || undefined, params: params.read(), ...order.read() }, key),
  });
}

export async function openEvaluate(model, versions) {
  const [catalog, jobs] = await Promise.all([getCatalog(), recentJobs()]);
  const drawable = versions.filter((one) => !one.revoked_by && !one.purged_by);
  const version = select(drawable.map((one) => ({ value: one.number, text: `version ${one.number}${one.number === model.head ? ", the head" : ""}` })), model.head);
  const params = paramsField();
  const order = queueing(model);
  const chosen = strategiesOf(catalog, "evaluate", () => true)[0];
  params.show(chosen);
  const what = consequences(() => [
    `Version ${version.value} gets a full report: quality, forgetting and capacity, beside networks that are retrained without the forgotten labels.`,
    "No version changes, and other jobs of the model may run meanwhile.",
    costText(jobs, "evaluate", null, model),
  ]);
  openDialog({
    title: `Evaluate ${model.name}`, action: "Evaluate", update: what.update, done: goToJob,
    body: [field("Version", version), params.node, order.node, what.node],
    run: (key) => post(`${modelApi(model.name)}/evaluate`, { version: Number(version.value), params: params.read(), ...order.read() }, key),
  });
}
