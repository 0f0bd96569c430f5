// The forms for the model itself, its versions and aliases: create, describe, promote, roll back, delete.

import { get, getAll, getCatalog, modelApi, patch, post, put, remove, Refused } from "./api.js";
import { consequences, field, openDialog, select } from "./dialogs.js";
import { h } from "./elements.js";
import { count, list, origin } from "./format.js";

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
  const [catalog, datasets] = await Promise.all([getCatalog(), getAll("/v1/datasets")]);
  const name = h("input", { required: true, maxlength: "64", autocomplete: "off", placeholder: "numbers" });
  const dataset = select(datasets.map((one) => ({ value: one.name, text: `${one.name}: ${one.title}` })));
  const network = select(catalog.architectures.map((one) => ({ value: one.name, text: `${one.name}: ${one.summary}${one.package ? ` (${origin(one)})` : ""}` })));
  const size = select([{ value: "fixed", text: "fixed: resized on request only" }, { value: "auto", text: "auto: resized after each learn and forget" }]);
  const queue = h("input", { maxlength: "32", autocomplete: "off", pattern: "[a-z][a-z0-9\\-]{0,31}", placeholder: "default" });
  const what = consequences(() => {
    const entry = datasets.find((one) => one.name === dataset.value);
    return [`The model starts empty. It may learn the ${count(entry.labels.length, "label")} of ${entry.name}, and those of other datasets.`, entry.bundled || entry.images ? "Its images are here." : "Its images are not bundled: a worker needs them on its disk (PALIMPSEST_DATA), or downloads them.",
      size.value === "auto" && "After each job that changes the main network another one chooses its width, unless the request says otherwise."];
  });
  openDialog({
    title: "Create a model", action: "Create", update: what.update, done: (model) => location.assign(`/models/${model.name}`),
    body: [field("Name", name, "1 to 64 letters, digits, dots, dashes or underscores."), field("Dataset", dataset), field("Network", network), field("Size", size), h("details", {}, h("summary", {}, "Queue"), field("Queue of its jobs", queue, "Only workers that serve it take them.")), what.node],
    run: (key) => post("/v1/models", { name: name.value.trim(), dataset: dataset.value, network: { architecture: network.value }, size_policy: size.value, ...(queue.value.trim() ? { queue: queue.value.trim() } : {}) }, key),
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

/** Change the description and the metadata of a model or a version. path: its address. */
export function openDescribe(title, path, described, done) {
  const text = h("textarea", { rows: "3", maxlength: "2000" });
  text.value = described.description ?? "";
  const entries = h("textarea", { rows: "4", spellcheck: "false", placeholder: "team = vision" });
  entries.value = Object.entries(described.metadata).map(([key, value]) => `${key} = ${value}`).join("\n");
  openDialog({
    title, action: "Save", done,
    body: [field("Description", text), field("Metadata", entries, "A line for each entry: key = value. At most 16, which programs can filter by."), h("p.note", {}, "Nothing else changes: no weights, no numbers, no receipts.")],
    run: () => patch(path, { description: text.value.trim() || null, metadata: changedEntries(described.metadata, readEntries(entries.value)) }),
  });
}

function readEntries(text) {
  return Object.fromEntries(text.split("\n").filter((line) => line.trim()).map((line) => {
    const [key, ...rest] = line.split("=");
    if (!key.trim() || rest.length === 0) throw new Refused(422, { detail: `Write the line “${line.trim()}” as key = value.` });
    return [key.trim(), rest.join("=").trim()];
  }));
}

/** What to send: the entries, and null for each that was removed. */
const changedEntries = (before, now) => ({ ...Object.fromEntries(Object.keys(before).filter((key) => !(key in now)).map((key) => [key, null])), ...now });

/** A description and metadata, as they are shown. */
export const describedBy = ({ description, metadata }) => [
  description && h("p.description", {}, description),
  Object.keys(metadata).length > 0 && h("ul.metadata", { "aria-label": "Metadata" }, Object.entries(metadata).map(([key, value]) => h("li", {}, h("span.tag", {}, `${key}: ${value}`)))),
].filter(Boolean);
