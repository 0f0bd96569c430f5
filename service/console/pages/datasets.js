// Datasets: what can be learned from, and the upload of one's own images.

import { getAll, remove, upload, Refused } from "../api.js";
import { field, openDialog } from "../dialogs.js";
import { card, h, renderOnce } from "../elements.js";
import { count, list, number, origin } from "../format.js";
import { IDLE_MS, refreshNow } from "../refreshing.js";

export function open() {
  const place = h("div.cards");
  const node = h("div", {}, h("div.page-head", {}, h("h1", {}, "Datasets"), h("button", { type: "button", click: openUpload }, "Upload images")), h("p.tagline", {}, "Labelled images of 28 × 28 pixels that a model can learn from."), place, h("p.json", {}, h("a", { href: "/v1/datasets" }, "The datasets as JSON")));

  async function refresh() {
    document.title = "Datasets · Palimpsest";
    const data = await getAll("/v1/datasets");
    renderOnce(place, data, () => data.map(datasetCard));
    return 2 * IDLE_MS;
  }

  return { node, refresh };
}

function datasetCard(dataset, index) {
  const total = dataset.images ? Object.values(dataset.images).reduce((sum, one) => sum + one, 0) : null;
  const where = dataset.images ? `uploaded, ${number(total)} images` : dataset.package ? origin(dataset) : dataset.bundled ? "comes with the service" : dataset.viewable ? "in the data folder" : "needs a download by the worker";
  return h(
    "article.card", { "aria-labelledby": `dataset-${index}` },
    h("h2", { id: `dataset-${index}` }, dataset.name), h("p", {}, dataset.title), h("p.summary", {}, `${count(dataset.labels.length, "label")} · ${where}`),
    h(`ul.label-list${dataset.viewable ? ".pictured" : ""}`, { "aria-label": `Labels of ${dataset.name}`, tabindex: dataset.viewable ? null : "0" }, dataset.labels.map((label) => labelItem(dataset, label))),
    dataset.warnings.length > 0 && h("details", {}, h("summary", {}, count(dataset.warnings.length, "warning")), h("ul.consequences", {}, dataset.warnings.map((note) => h("li", {}, note.labels.length && note.labels.length < dataset.labels.length ? `${list(note.labels)}: ` : "", note.detail)))),
    dataset.deleted_labels.length > 0 && h("p.note", {}, `The images of ${list(dataset.deleted_labels)} were deleted.`),
    dataset.images && h("div.buttons", {}, h("button.small", { type: "button", click: () => openDelete(dataset), "aria-label": `Delete images of ${dataset.name}` }, "delete…")),
  );
}

const examplesAddress = (dataset, label, grid, scale) => `/v1/datasets/${encodeURIComponent(dataset.name)}/labels/${encodeURIComponent(label)}/examples/0.png?grid=${grid}&scale=${scale}`;

/** A label with its first image, which opens more of them; its name alone where the service has no images. */
function labelItem(dataset, label) {
  const amount = dataset.images ? `${number(dataset.images[label])} images` : null;
  if (!dataset.viewable) return h("li", { title: amount }, label);
  const image = h("img", { src: examplesAddress(dataset, label, "1x1", 2), alt: "", width: "56", height: "56", loading: "lazy" });
  return h("li", { title: amount }, h("button.face", { type: "button", "aria-label": `Images of ${label} in ${dataset.name}`, click: () => openExamples(dataset, label) }, image), h("span.name", {}, label));
}

function openExamples(dataset, label) {
  const [rows, columns] = dataset.images ? [Math.min(8, Math.ceil(dataset.images[label] / 8)), 8] : dataset.bundled ? [1, 8] : [8, 8];
  openDialog({
    title: `${label} in ${dataset.name}`, done: () => {},
    body: [h("div.result", {}, h("img", { src: examplesAddress(dataset, label, `${rows}x${columns}`, 2), alt: `${rows * columns} images of ${label}`, width: columns * 56, height: rows * 56 })),
      h("p.note", {}, dataset.images ? `${number(dataset.images[label])} images were uploaded; these are the first.` : "The first images to learn from, not selected.")],
  });
}

/** Ask for a file, and try it: nothing is kept before the images were seen. */
function openUpload() {
  const name = h("input", { required: true, maxlength: "64", autocomplete: "off" });
  const file = h("input", { type: "file", required: true, accept: ".zip,.npz" });
  const fit = h("input", { type: "checkbox" });
  file.addEventListener("change", () => {
    name.value ||= file.files[0]?.name.replace(/\.[a-z]+$/i, "").replaceAll(/[^A-Za-z0-9._-]/g, "-") ?? "";
  });
  const path = () => `/v1/datasets/${encodeURIComponent(name.value.trim())}`;
  const query = () => (fit.checked ? "fit=28" : "");
  openDialog({
    title: "Upload images", action: "Show", done: (tried) => openKeep(tried, `${path()}?${query()}`, file.files[0]),
    body: [
      field("File", file, "A zip of folders, one for each label, with PNG or JPEG files of 28 × 28 pixels; or an npz of `images` and `labels`. Bright ink on black, at least 5 images of each label. Other usual forms are converted."),
      field("Name", name),
      h("label.choice", {}, fit, h("span", {}, "Scale images of other sizes to 28 × 28")),
      h("p.note", {}, "Nothing is kept before you have seen the images."),
    ],
    run: () => upload(`${path()}?dry_run=true&${query()}`, file.files[0]),
  });
}

/** Show what would be kept, and keep it. */
function openKeep(tried, path, file) {
  const notes = (title, found) => found.length > 0 && h("section", {}, h("h3", {}, title), h("ul.consequences", {}, found.map((note) => h("li", {}, note.labels.length && note.labels.length < tried.labels.length ? `${list(note.labels)}: ` : "", note.detail))));
  const images = (label) => h("li", {}, h("span.name", {}, label), h("small", {}, ` ${number(tried.images[label])} images, ${number(tried.test_images[label])} of them to test with`), h("img", { src: tried.previews[label], alt: `The first images of ${label}` }));
  openDialog({
    title: `Keep ${tried.name}?`, action: "Keep", done: refreshNow,
    body: [
      notes("What looks wrong", tried.warnings), notes("How it was read", tried.conversions),
      h("ul.previews.result", { "aria-label": `Images of ${tried.name}`, tabindex: "0" }, tried.labels.map(images)),
      h("p.note", {}, "Images never change once they are uploaded. You can delete them again, whole or label by label."),
    ],
    run: () => upload(path, file),
  });
}

function openDelete(dataset) {
  const chosen = h("select", {}, h("option", { value: "" }, "the whole dataset"), dataset.labels.map((label) => h("option", { value: label }, `only label ${label}`)));
  const name = h("input", { required: true, autocomplete: "off" });
  const path = `/v1/datasets/${encodeURIComponent(dataset.name)}`;
  openDialog({
    title: `Delete images of ${dataset.name}`, action: "Delete", dangerous: true,
    body: [field("What", chosen), h("p", {}, "The images cannot be learned from any more, and their file is deleted. Models keep what they have learned from them: to remove that, forget the label."), field(`Type ${dataset.name} to confirm`, name)],
    run: () => {
      if (name.value.trim() !== dataset.name) throw new Refused(422, { detail: `Type the name of the dataset, ${dataset.name}.` });
      return remove(chosen.value ? `${path}/labels/${encodeURIComponent(chosen.value)}` : path);
    },
  });
}
