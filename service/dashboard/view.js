// What the page looks like: plain functions from what the API said to elements.

/** An element: tag.class, attributes (functions are listeners), children. */
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

/** Children of `parent`, one an item, in order: kept by key, made when new, dropped when gone. */
export function keep(parent, items, key, make, update) {
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

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

const millions = (count) =>
  count >= 1e6 ? `${(count / 1e6).toFixed(2)} M` : count >= 1e3 ? `${Math.round(count / 1e3)} k` : String(count);
const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** The page of a book with nothing in it: how to write the first line. */
export function emptyBook() {
  const create = `curl ${location.origin}/v1/models --json '{"name": "numbers", "dataset": "digits"}'`;
  const learn = `curl ${location.origin}/v1/models/numbers/learn --json '{"labels": ["0", "1", "2"]}'`;
  return h(
    "section.leaf.blank", { "aria-label": "No models" },
    h("h2", {}, "Nothing is written yet"),
    h("p", {}, "A model appears here as soon as it is created. Create one, and have it learn:"),
    h("pre", { tabindex: "0", "aria-label": "Two commands to begin with" }, `${create}\n${learn}`),
  );
}

/** A model's leaf, to be filled by showLeaf. */
export function leaf(model) {
  const title = `model-${model.id}`;
  return h(
    "article.leaf", { "aria-labelledby": title },
    h("div.head", {}, h("h2", { id: title }, model.name), h("p.about")),
    h("ul.jobs", { "aria-label": `Jobs of ${model.name}` }),
    h("ul.faces", { "aria-label": `Labels of ${model.name}` }),
    h("ol.line", { tabindex: "0", "aria-label": `Versions of ${model.name}, oldest first` }),
  );
}

/** Bring a leaf to what the API says now. */
export function showLeaf(node, model) {
  const line = model.line;
  const newest = line.versions.at(-1);
  const size = newest ? ` · version ${newest.number} · ${millions(newest.parameters)} parameters` : " · no version yet";
  text(node.querySelector(".about"), model.dataset + size);
  keep(node.querySelector(".jobs"), model.jobs, (job) => job.id, jobRow, showJob);
  keep(node.querySelector(".faces"), model.labels, (label) => label.name, faceTile, (tile, label) => showFace(tile, label, model));
  const versions = node.querySelector(".line");
  const grew = newest && versions.dataset.head !== String(newest.number);
  const largest = Math.max(...line.versions.map((version) => version.parameters));
  const steps = line.versions.map((version, index) => ({ version, before: line.versions[index - 1], largest }));
  keep(versions, steps, (step) => step.version.number, knot, showKnot);
  versions.classList.toggle("earlier", line.earlier);
  if (grew) {
    versions.dataset.head = newest.number;
    versions.scrollLeft = versions.scrollWidth;
  }
}

const FACE_SCALE = 4;

function faceTile(label) {
  return h("li.label", { "data-seed": "0" }, h("div.face"), h("span.name", {}, label.name), h("span.status"));
}

function showFace(tile, label, model) {
  const held = label.status === "permanent" || label.status === "temporary";
  const relapsed = model.relapsed.includes(label.name);
  const seen = `${label.status} ${held ? model.head : label.forgotten_version} ${relapsed}`;
  if (tile.dataset.seen === seen) return;
  tile.dataset.seen = seen;
  tile.dataset.status = label.status;
  text(tile.querySelector(".status"), relapsed ? "relapsed" : label.status);
  tile.classList.toggle("relapsed", relapsed);
  tile.querySelector(".name").title = `${label.source} of ${label.dataset}`;
  if (!held) tile.querySelector(".face").replaceWith(emptyFace(label));
  else {
    tile.dataset.images = `${model.links.versions}/${model.head}/images/${encodeURIComponent(label.name)}`;
    if (!tile.querySelector("img")) tile.querySelector(".face").replaceWith(drawnFace(tile));
    tile.querySelector("img").alt = `${label.name} as version ${model.head} draws it`;
    draw(tile);
  }
}

/** A face drawn by the head version. Pressing it draws the next seed. */
function drawnFace(tile) {
  const next = () => {
    tile.dataset.seed = Number(tile.dataset.seed) + 1;
    draw(tile);
  };
  const again = () => delete tile.dataset.seen; // revoked a moment ago: the next turn knows the new head
  const image = h("img", { width: "84", height: "84", loading: "lazy", error: again });
  return h("button.face", { type: "button", title: "Draw another", click: next }, image);
}

function draw(tile) {
  tile.querySelector("img").src = `${tile.dataset.images}/${tile.dataset.seed}.png?scale=${FACE_SCALE}`;
}

function emptyFace(label) {
  const forgotten = label.status === "forgotten";
  const words = forgotten ? `${label.name}, forgotten in version ${label.forgotten_version}` : `${label.name}, never learnt`;
  return h("div.face", { role: "img", "aria-label": words, title: words }, forgotten ? h("span.ghost", { "aria-hidden": "true" }, label.name) : "");
}

function knot() {
  return h("li.version", {}, h("div.number", {}, h("a")), h("div.did"), h("div.held"), h("div.size", {}, h("span.gauge", {}, h("span.bar")), h("span.count")), h("div.figures"));
}

function showKnot(node, { version, before, largest }) {
  node.classList.toggle("revoked", version.revoked_by !== null || version.purged_by !== null);
  node.title = version.purged_by ? `Purged with what ${version.purged_by} forgot: its files are deleted`
    : version.revoked_by ? `Revoked: it holds a label that ${version.revoked_by} forgot` : version.strategy;
  const link = node.querySelector(".number a");
  link.href = version.links.report;
  link.title = "The evidence measured for this version";
  text(link, `v${version.number}`);
  text(node.querySelector(".did"), deed(version, before));
  text(node.querySelector(".held"), version.purged_by ? "purged" : version.revoked_by ? "revoked" : `holds ${version.labels.join(" ")}`);
  node.querySelector(".bar").style.inlineSize = `${(100 * version.parameters) / largest}%`;
  text(node.querySelector(".count"), millions(version.parameters));
  text(node.querySelector(".figures"), figures(version.figures));
}

/** What a version did to the one before it, in a few words. */
function deed(version, before) {
  const had = new Set(before ? before.labels : []);
  const has = new Set(version.labels);
  if (!before && version.parent !== null) return version.operation; // the line begins in the middle
  const learnt = version.labels.filter((name) => !had.has(name)).join(" ");
  if (version.operation === "learn") return learnt ? `learn ${learnt}` : "make permanent"; // held already, apart
  if (version.operation === "forget") return `forget ${[...had].filter((name) => !has.has(name)).join(" ")}`;
  const change = version.parameters / before.parameters - 1;
  return `${version.operation} ${change < 0 ? "−" : "+"}${Math.abs(change * 100).toFixed(0)} %`;
}

function figures({ retained_accuracy: kept, forgotten_accuracy: gone }) {
  const words = [];
  if (kept !== null) words.push(`kept ${percent(kept)}`);
  if (gone !== null) words.push(`forgotten ${percent(gone)}`);
  return words.join("\n") || "not judged";
}

function jobRow(job) {
  const between = job.labels.some((name) => name.length > 1) ? ", " : " ";
  const title = `${job.operation} ${job.labels.join(between) || `by ${job.strategy.replaceAll("_", " ")}`}`;
  return h("li.job", {}, h("span.what", {}, title), h("span.state"), h("progress", { max: "1", "aria-label": title }), h("span.detail"));
}

function showJob(node, job) {
  node.dataset.state = job.state;
  text(node.querySelector(".state"), job.state);
  const bar = node.querySelector("progress");
  bar.hidden = job.done;
  if (job.state === "queued") bar.value = 0;
  else if (job.progress?.total > 1) bar.value = job.progress.fraction;
  else bar.removeAttribute("value");
  text(node.querySelector(".detail"), detail(job));
}

function detail(job) {
  if (job.error) return job.error.message;
  if (job.state === "queued") return job.queue_position ? `${job.queue_position} before it` : "next";
  const words = [];
  if (job.progress) {
    const { phase, step, total, loss, eta_seconds: eta } = job.progress;
    words.push(phase);
    if (total > 1) words.push(`step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    if (loss !== null) words.push(`loss ${loss.toFixed(1)}`);
    if (eta !== null) words.push(`about ${Math.ceil(eta)} s left`);
  }
  if (job.attempt > 1) words.push(`attempt ${job.attempt} of ${job.max_attempts}`);
  return words.join(" · ");
}
