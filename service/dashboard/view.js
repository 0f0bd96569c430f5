// Functions that turn the API's responses into elements: `labelTile` makes one, `updateLabelTile` fills it.

/** Make an element. name: tag.class. attributes: a function is an event listener for its key. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  node.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** Give `parent` one child for each item, in order: reuse by key, make what is missing, remove the rest. */
export function updateChildren(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    const name = String(key(item));
    const node = old.get(name) ?? make(item);
    old.delete(name);
    node.dataset.key = name;
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    update(node, item);
  });
  for (const node of old.values()) node.remove();
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const shortNumber = (count) =>
  count >= 1e6 ? `${(count / 1e6).toFixed(2)} M` : count >= 1e3 ? `${Math.round(count / 1e3)} k` : String(count);
const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** Shown while there is no model: how to create one. */
export function noModels() {
  const create = `curl ${location.origin}/v1/models --json '{"name": "numbers", "dataset": "digits"}'`;
  const learn = `curl ${location.origin}/v1/models/numbers/learn --json '{"labels": ["0", "1", "2"]}'`;
  return h(
    "section.card", { "aria-labelledby": "no-models" },
    h("h2", { id: "no-models" }, "No models yet"),
    h("p", {}, "Create a model and let it learn some labels. For example:"),
    h("pre", { tabindex: "0", "aria-label": "Two commands: create a model, learn three labels" }, `${create}\n${learn}`),
  );
}

/** The form that asks for an API key. `onKey` gets the key, and returns why it was refused, or null. */
export function signInForm(onKey) {
  const input = h("input", { id: "key", type: "password", autocomplete: "off", required: "" });
  const reason = h("p.note", { role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    setText(reason, (await onKey(input.value.trim())) ?? "");
  };
  return h(
    "section.card", { "aria-labelledby": "sign-in" },
    h("h2", { id: "sign-in" }, "Sign in"),
    h("p", {}, "This service needs an API key. The key itself is not stored in this browser."),
    h("form", { submit }, h("label", { for: "key" }, "API key "), input, " ", h("button", {}, "Sign in")),
    reason,
  );
}

/** The card of a model, to be filled by updateModelCard. */
export function modelCard(model) {
  const title = `model-${model.id}`;
  return h(
    "article.card", { "aria-labelledby": title },
    h("div.card-head", {}, h("h2", { id: title }, model.name), h("p.summary")),
    h("ul.jobs", { "aria-label": `Jobs of ${model.name}` }),
    h("h3", {}, "Labels"),
    h("ul.labels", { "aria-label": `Labels of ${model.name}` }),
    h(
      "section.history", { "aria-label": `History of ${model.name}` },
      h("h3", {}, "Versions"),
      h("p.note", {}, "Percentages: drawn images that a separate classifier (the judge) recognises as their label."),
      h("ol.versions", { tabindex: "0", "aria-label": `Versions of ${model.name}, oldest first` }),
    ),
  );
}

/** Bring a model's card up to date. `model` has its versions. */
export function updateModelCard(node, model) {
  const newest = model.versions.at(-1);
  const size = newest ? ` · version ${newest.number} · ${shortNumber(newest.parameters)} parameters` : " · no version yet";
  setText(node.querySelector(".summary"), `dataset ${model.dataset}${size}`);
  updateChildren(node.querySelector(".jobs"), model.jobs, (job) => job.id, jobItem, updateJobItem);
  updateChildren(
    node.querySelector(".labels"), model.labels, (label) => label.name,
    labelTile, (tile, label) => updateLabelTile(tile, label, model),
  );
  node.querySelector(".history").hidden = !newest;
  const list = node.querySelector(".versions");
  const isNew = newest && list.dataset.head !== String(newest.number);
  const largest = Math.max(...model.versions.map((version) => version.parameters));
  const items = model.versions.map((version, index) => ({ version, before: model.versions[index - 1], largest }));
  updateChildren(list, items, (item) => item.version.number, versionItem, updateVersionItem);
  list.classList.toggle("earlier", model.earlier);
  if (isNew) {
    list.dataset.head = newest.number;
    list.scrollLeft = list.scrollWidth;
  }
}

const IMAGE_SCALE = 4;

function labelTile(label) {
  return h("li.label", { "data-seed": "0" }, h("div.thumbnail"), h("span.name", {}, label.name), h("span.status"));
}

function updateLabelTile(tile, label, model) {
  const held = label.status === "permanent" || label.status === "temporary";
  const relapsed = model.relapsed.includes(label.name);
  const shown = `${label.status} ${held ? model.head : label.forgotten_version} ${relapsed}`;
  if (tile.dataset.shown === shown) return;
  tile.dataset.shown = shown;
  tile.dataset.status = label.status;
  tile.classList.toggle("relapsed", relapsed);
  setText(tile.querySelector(".status"), relapsed ? "relapsed" : label.status);
  tile.querySelector(".status").title = relapsed ? "Forgotten, but the newest version draws it again" : "";
  tile.querySelector(".name").title = `${label.source} of dataset ${label.dataset}`;
  if (!held) tile.querySelector(".thumbnail").replaceWith(noImage(label));
  else {
    tile.dataset.images = `${model.links.versions}/${model.head}/images/${encodeURIComponent(label.name)}`;
    if (!tile.querySelector("img")) tile.querySelector(".thumbnail").replaceWith(imageButton(tile));
    tile.querySelector("img").alt = `${label.name} as version ${model.head} draws it`;
    loadImage(tile);
  }
}

/** An image that the newest version draws of the label. A click draws the next seed. */
function imageButton(tile) {
  const next = () => {
    tile.dataset.seed = Number(tile.dataset.seed) + 1;
    loadImage(tile);
  };
  // The version may have just been revoked: load the image again at the next refresh.
  const retry = () => delete tile.dataset.shown;
  const image = h("img", { width: "84", height: "84", loading: "lazy", error: retry });
  return h("button.thumbnail", { type: "button", title: "Draw another image", click: next }, image);
}

function loadImage(tile) {
  tile.querySelector("img").src = `${tile.dataset.images}/${tile.dataset.seed}.png?scale=${IMAGE_SCALE}`;
}

function noImage(label) {
  const reason = label.status === "forgotten" ? `forgotten in version ${label.forgotten_version}` : "not learned";
  return h("div.thumbnail", { role: "img", "aria-label": `${label.name}, ${reason}`, title: `${label.name}, ${reason}` });
}

function versionItem() {
  return h(
    "li.version", {},
    h("div.number", {}, h("a")), h("div.change"), h("div.holds"),
    h("div.size", {}, h("span.track", {}, h("span.bar")), h("span.count")), h("div.figures"),
  );
}

function updateVersionItem(node, { version, before, largest }) {
  node.classList.toggle("revoked", version.state !== "usable");
  node.title = version.purged_by ? `Purged: its files were deleted after ${version.purged_by} forgot a label`
    : version.deleted_at ? "Deleted: its files were deleted on request"
    : version.revoked_by ? `Revoked: it can draw a label that ${version.revoked_by} forgot` : `By ${version.strategy}`;
  const link = node.querySelector(".number a");
  link.href = version.links.report;
  link.title = "The report on this version";
  setText(link, `Version ${version.number}`);
  setText(node.querySelector(".change"), describeChange(version, before));
  setText(node.querySelector(".holds"), version.state !== "usable" ? version.state : `labels ${version.labels.join(" ")}`);
  node.querySelector(".bar").style.inlineSize = `${(100 * version.parameters) / largest}%`;
  setText(node.querySelector(".count"), `${shortNumber(version.parameters)} parameters`);
  setText(node.querySelector(".figures"), describeFigures(version.figures));
}

/** Describe in a few words what changed from the version before. */
function describeChange(version, before) {
  const old = new Set(before ? before.labels : []);
  const now = new Set(version.labels);
  if (!before && version.parent !== null) return version.operation; // the version before it was not fetched
  const learned = version.labels.filter((name) => !old.has(name)).join(" ");
  // A learn without new labels made temporary ones permanent.
  if (version.operation === "learn") return learned ? `learn ${learned}` : "make permanent";
  if (version.operation === "forget") return `forget ${[...old].filter((name) => !now.has(name)).join(" ")}`;
  const change = version.parameters / before.parameters - 1;
  return `${version.operation} ${change < 0 ? "−" : "+"}${Math.abs(change * 100).toFixed(0)} %`;
}

function describeFigures({ retained: { value: kept }, forgotten: { value: forgotten } }) {
  const lines = [];
  if (kept !== null) lines.push(`kept labels ${percent(kept)}`);
  if (forgotten !== null) lines.push(`forgotten labels ${percent(forgotten)}`);
  return lines.join("\n") || "not measured";
}

function jobItem(job) {
  const separator = job.labels.some((name) => name.length > 1) ? ", " : " ";
  const title = `${job.operation} ${job.labels.join(separator) || `by ${job.strategy.replaceAll("_", " ")}`}`;
  return h(
    "li.job", {},
    h("span.title", {}, title), h("span.state"), h("progress", { max: "1", "aria-label": title }), h("span.detail"),
  );
}

function updateJobItem(node, job) {
  node.dataset.state = job.state;
  setText(node.querySelector(".state"), job.state);
  const bar = node.querySelector("progress");
  bar.hidden = job.done;
  if (job.state === "queued") bar.value = 0;
  else if (job.progress?.total > 1) bar.value = job.progress.fraction;
  else bar.removeAttribute("value");
  setText(node.querySelector(".detail"), describeProgress(job));
}

function describeProgress(job) {
  if (job.error) return job.error.message;
  if (job.state === "queued") {
    const position = job.queue_position;
    return position ? `${position} ${position === 1 ? "job" : "jobs"} before it` : "next in the queue";
  }
  const parts = [];
  if (job.progress) {
    const { phase, step, total, loss, eta_seconds: eta } = job.progress;
    parts.push(phase);
    if (total > 1) parts.push(`step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    if (loss !== null) parts.push(`loss ${loss.toFixed(1)}`);
    if (eta !== null) parts.push(`about ${Math.ceil(eta)} s left`);
  }
  if (job.attempt > 1) parts.push(`attempt ${job.attempt} of ${job.max_attempts}`);
  return parts.join(" · ");
}
