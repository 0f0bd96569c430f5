// Exports: the form that asks for many images, and a list of them with their progress and their files.

import { get, modelApi, post, remove } from "./api.js";
import { consequences, field, labelChoice, openDialog, select } from "./dialogs.js";
import { h, setText } from "./elements.js";
import { bytes, count, duration, list, moment, number } from "./format.js";

const FORMATS = { npz: "npz: arrays for NumPy", webdataset: "WebDataset: tar archives of PNG files" };
const IMAGE_BYTES = { npz: 800, webdataset: 2560 }; // about, in a shard: neither format compresses
const FILES_SHOWN = 100;

/** Ask for an export. versions: those that may be drawn from. done: called with the new export. */
export function openExport(model, versions, labels, done) {
  const choice = labelChoice("Labels", labels, labels.map((label) => label.name));
  const amount = h("input", { id: "export-count", type: "number", min: "1", max: "100000000", value: "10000", required: true });
  const seed = h("input", { id: "export-seed", type: "number", min: "0", placeholder: "chosen at random" });
  const version = select([{ value: "", text: `head: version ${model.head}` }, ...versions.map((one) => ({ value: one.number, text: `version ${one.number}` }))]);
  const format = select(Object.entries(FORMATS).map(([value, text]) => ({ value, text })));
  version.id = "export-version"; // the page has fields of the same names
  format.id = "export-format";
  const images = () => Number(amount.value) * choice.chosen().length;
  const what = consequences(() => [
    choice.chosen().length === 0 ? "Choose at least one label." : `The workers draw ${number(images())} images of ${list(choice.chosen())}: about ${bytes(images() * IMAGE_BYTES[format.value])} in files to download.`,
    "Learning and forgetting go first. If a label of the version is forgotten meanwhile or later, the export ends and its files are deleted.",
  ]);
  openDialog({
    title: `Export images of ${model.name}`, action: "Export", update: what.update, done,
    body: [choice.node, h("div.fields", {}, field("Images of each", amount), field("Seed", seed), field("Version", version), field("Format", format)), what.node],
    run: (key) => post(`${modelApi(model.name)}/exports`, {
      labels: choice.chosen(), count: Number(amount.value), format: format.value,
      ...(seed.value === "" ? {} : { seed: Number(seed.value) }), ...(version.value === "" ? {} : { version: Number(version.value) }),
    }, key),
  });
}

/** An export in a list. done: called when it was cancelled or deleted. */
export function exportItem(one, done) {
  const title = one.labels.join(one.labels.some((label) => label.length > 1) ? ", " : " ");
  const named = `${title}, seed ${one.seed}`;
  return h("li.job", {}, h("b.title", {}, title), h("span.state"), h("progress", { max: "1", "aria-label": `Export of ${named}` }), h("span.detail"),
    h("span.row", {},
      h("button.small.files", { type: "button", "aria-label": `Files of the export of ${named}`, click: () => openFiles(one, title) }, "files…"),
      h("button.small.cancel", { type: "button", "aria-label": `Cancel the export of ${named}`, click: () => post(`${one.links.self}/cancel`).then(done) }, "cancel"),
      h("button.small", { type: "button", "aria-label": `Delete the export of ${named}`, click: () => openDelete(one, done) }, "delete…"),
      h("a.json", { href: one.links.self }, "JSON")));
}

export function updateExportItem(node, one) {
  node.dataset.state = one.state;
  setText(node.querySelector(".state"), one.state);
  const bar = node.querySelector("progress");
  bar.hidden = one.done;
  bar.value = one.progress.fraction;
  node.querySelector(".cancel").hidden = one.done;
  node.querySelector(".files").hidden = one.bytes === 0 || (one.done && one.state !== "succeeded");
  setText(node.querySelector(".detail"), describe(one));
}

function describe(one) {
  if (one.error) return one.error.message;
  const about = `${number(one.images)} images as ${one.format} · version ${one.version} · ${moment(one.created_at)}`;
  if (one.state === "revoked") return `${about} · its version may not be drawn from any more`;
  if (one.done) return `${about}${one.state === "succeeded" ? ` · ${bytes(one.bytes)}` : ""}`;
  const left = one.progress.eta_seconds === null ? "" : `, about ${duration(one.progress.eta_seconds)} left`;
  return `${number(one.progress.images)} of ${about}${left}`;
}

async function openFiles({ links }, title) {
  const [one, { data, has_more: more }] = await Promise.all([get(links.self), get(`${links.shards}?limit=${FILES_SHOWN}`)]);
  const file = (name, href, text) => h("li", {}, h("a", { href, download: name }, name), h("span.note", {}, ` ${text}`));
  openDialog({
    title: `Files of ${title}`, done: () => {},
    body: [
      h("ul.keys", { "aria-label": "Files" }, one.manifest && file("manifest.json", one.manifest.href, "which images, and the sha256 of each file"), data.map((shard) => file(shard.file, shard.href, `${count(shard.images, "image")} · ${bytes(shard.bytes)}`))),
      more && h("p.note", {}, `The first ${FILES_SHOWN} of ${number(one.shards)}.`),
      h("p.note", {}, `All of them, checked: palimpsest exports download ${one.id} --out FOLDER`),
    ],
  });
}

const openDelete = (one, done) => openDialog({
  title: "Delete this export?", action: "Delete", dangerous: true, done,
  body: [h("p", {}, "Its files are deleted. A new export with the same version, labels and seed has the same bytes, while the version may be drawn from.")],
  run: () => remove(one.links.self),
});
