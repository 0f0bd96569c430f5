// A playground: choose labels and draw them, and see the request that does the same.

import { Refused, get, modelApi, modelPath, postAnswer, remove } from "../api.js";
import { explain, field, labelChoice, openDialog, select } from "../dialogs.js";
import { card, h, renderOnce, updateChildren } from "../elements.js";
import { exportItem, openExport, updateExportItem } from "../exporting.js";
import { isHeld } from "../faces.js";
import { isDrawable } from "../history.js";
import { moment } from "../format.js";
import { BUSY_MS, IDLE_MS } from "../refreshing.js";

const FORMATS = { png_grid: "PNG: a grid, a row for each label", webp: "WebP: the same grid, lossless", png: "PNG: one image", npz: "npz: arrays for Python", b64_json: "JSON with PNGs in base64" };

export function open(name) {
  const form = h("div");
  const recorded = h("div");
  const exported = h("ul.jobs.long", { "aria-label": "Exports" });
  const exports = card("exports", "Exports", h("button.small", { type: "button", click: () => openExport(shown.model, shown.versions.filter(isDrawable), shown.model.labels.filter(isHeld), showExports) }, "Export many images…"), h("p.note", {}, "Files of up to 100 million images, which the workers draw."), exported);
  exports.hidden = true;
  const shown = { model: null, versions: [] };
  const node = h("div", {}, h("p.breadcrumb", {}, h("a", { href: "/" }, "Models"), " / ", h("a", { href: modelPath(name) }, name), " /"), h("h1", {}, "Draw images"), form, exports, recorded);

  async function refresh(turn) {
    document.title = `Draw images with ${name} · Palimpsest`;
    const kind = turn === 0 ? "all" : ["recorded", "exports", "model"][turn % 3]; // one request a turn
    if (kind === "all" || kind === "recorded") await showRecorded();
    if (kind === "all" || kind === "exports" || isExporting()) await showExports();
    if (kind === "recorded" || kind === "exports") return isExporting() ? BUSY_MS : 2 * IDLE_MS;
    const [model, versions] = await Promise.all([get(modelApi(name)), turn === 0 ? get(`${modelApi(name)}/versions?limit=100`) : null]);
    // Only what is learned or forgotten makes the form anew, so that nothing that was entered is lost.
    if (versions || form.dataset.head !== String(model.head)) {
      form.dataset.head = model.head;
      const all = versions ?? (await get(`${modelApi(name)}/versions?limit=100`));
      Object.assign(shown, { model, versions: all.data });
      exports.hidden = model.head === null;
      renderOnce(form, [model.head, model.labels], () => playground(name, model, all.data, showRecorded));
    }
    return isExporting() ? BUSY_MS : 2 * IDLE_MS;
  }

  const isExporting = () => exported.querySelector("progress:not([hidden])") !== null;

  async function showExports() {
    const { data } = await get(`/v1/exports?model=${encodeURIComponent(name)}&limit=10`);
    updateChildren(exported, data, (one) => one.id, (one) => exportItem(one, showExports), updateExportItem);
  }

  async function showRecorded() {
    const { data } = await get(`/v1/samples?model=${encodeURIComponent(name)}&limit=10`);
    renderOnce(recorded, data, () => data.length ? card("recorded", "Recorded samples", "newest first", h("ul.keys.messages", {}, data.map((one) => sampleItem(one, showRecorded)))) : []);
  }

  return { node, refresh };
}

function sampleItem(sample, done) {
  const labels = sample.labels.join(sample.labels.some((label) => label.length > 1) ? ", " : " ");
  return h("li", {}, h("b", {}, labels), h("span.note", {}, `${moment(sample.created_at)} · ${sample.count} of each · version ${sample.version} · seed ${sample.seed}`),
    h("span.row", {}, h("a", { href: sample.links.images }, "images"), h("a.json", { href: sample.links.self }, "JSON"), h("button.small", { type: "button", "aria-label": `Delete the record of ${labels}, seed ${sample.seed}`, click: () => openDelete(sample, done) }, "delete…")));
}

const openDelete = (sample, done) => openDialog({
  title: "Delete this record?", action: "Delete", dangerous: true, done,
  body: [h("p", {}, "Its address ends. A new request with the same version, labels and seed draws the same images again, while the version may be drawn from.")],
  run: () => remove(sample.links.self),
});

function playground(name, model, versions, showRecorded) {
  if (model.head === null) return h("p.note", {}, "This model has no version yet, so there is nothing to draw.");
  const labels = model.labels.filter(isHeld);
  const choice = labelChoice("Labels", labels, labels.slice(0, 3).map((label) => label.name));
  const count = h("input", { type: "number", min: "1", max: "2000", value: "8", required: true });
  const seed = h("input", { type: "number", min: "0", value: "0", placeholder: "chosen at random" });
  const version = select([{ value: "", text: `head: version ${model.head}` }, ...Object.entries(model.aliases).map(([alias, number]) => ({ value: alias, text: `${alias}: version ${number}` })), ...versions.filter(isDrawable).map((one) => ({ value: one.number, text: `version ${one.number}` }))]);
  const format = select(Object.entries(FORMATS).map(([value, text]) => ({ value, text })));
  const result = h("div.result", { "aria-live": "polite" });
  const pictures = card("images", "Images", null, result);
  pictures.hidden = true;
  const errors = h("div.error", { role: "alert" });
  const command = h("pre", { tabindex: "0", "aria-label": "The same request in a terminal" });
  const button = h("button", {}, "Draw");
  const copy = h("button.small", { type: "button", click: () => navigator.clipboard?.writeText(command.textContent).then(() => (copy.textContent = "copied")) }, "copy");

  const request = () => ({
    labels: choice.chosen(), count: Number(count.value), format: format.value,
    ...(seed.value === "" ? {} : { seed: Number(seed.value) }),
    ...(version.value === "" ? {} : { version: /^[0-9]+$/.test(version.value) ? Number(version.value) : version.value }),
  });
  const extension = () => ({ webp: "webp", npz: "npz", b64_json: "json" })[format.value] ?? "png";
  const update = () => {
    command.textContent = `curl ${location.origin}${modelApi(name)}/samples \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(request()).replaceAll("'", "'\\''")}' -o images.${extension()}`;
  };
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    errors.replaceChildren();
    try {
      const answer = await postAnswer(`${modelApi(name)}/samples`, request());
      const sample = answer.headers.get("X-Sample-Id");
      await answer.arrayBuffer();
      show(sample);
      await showRecorded();
    } catch (error) {
      errors.replaceChildren(...explain(error instanceof Error ? error : new Refused(0, {})));
    } finally {
      button.disabled = false;
    }
  };
  const show = (sample) => {
    pictures.hidden = false;
    if (sample === null) return result.replaceChildren(h("p.note", {}, "The disk is full: the sample was drawn, and not recorded."));
    const images = `/v1/samples/${sample}/images`;
    const isPicture = ["png_grid", "webp", "png"].includes(format.value);
    return result.replaceChildren(
      isPicture ? h("img", { src: images, alt: `Images of ${choice.chosen().join(", ")}` }) : h("p", {}, `Drawn as ${format.value}.`),
      h("p.note", {}, h("a", { href: images, download: `${sample}.${extension()}` }, "Download"), " · recorded as ", h("a", { href: `/v1/samples/${sample}` }, sample), ": it gives exactly the same pixels again, until a label of its version is forgotten."));
  };
  update();
  return h(
    "div.playground", {},
    h("form.card", { submit, input: update, change: update, "aria-label": "What to draw" }, choice.node, h("div.fields", {}, field("Images of each", count), field("Seed", seed, "The same seed gives the same images."), field("Version", version), field("Format", format)), errors, h("div.buttons", {}, button)),
    pictures,
    card("command", "The same in a terminal", copy, command),
  );
}
