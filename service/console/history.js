// The versions of a model: as a graph of versions and labels, as plots, and as a list.

import { modelPath } from "./api.js";
import { h, svg } from "./elements.js";
import { capitalize, list, percent, shortNumber, words } from "./format.js";
import { describedBy } from "./managing.js";
import { linePlot } from "./plots.js";

export const isDrawable = (version) => versionState(version) === "";

/** Say in a few words what a version changed. before: the version before it, if it is known. */
export function describeChange(version, before) {
  if (!before && version.parent !== null) return version.operation;
  const old = new Set(before ? before.labels : []);
  const now = new Set(version.labels);
  const learned = version.labels.filter((name) => !old.has(name));
  // A learn without new labels made temporary ones permanent.
  if (version.operation === "learn") return learned.length ? `learn ${learned.join(" ")}` : "make permanent";
  if (version.operation === "forget") return `forget ${[...old].filter((name) => !now.has(name)).join(" ")}`;
  const change = version.parameters / before.parameters - 1;
  return `${version.operation} ${change < 0 ? "−" : "+"}${Math.abs(change * 100).toFixed(Math.abs(change) < 0.1 ? 1 : 0)} %`;
}

/** Why nobody can draw from a version: "" if somebody can. */
export const versionState = (version) => (version.purged_by ? "purged" : version.deleted_at ? "deleted" : version.revoked_by ? "revoked" : "");

const STATES = { purged: "purged: its files are deleted", deleted: "deleted: its files are gone", revoked: "revoked: nobody can draw from it" };

const STEP = 74;
const LEFT = 64;
const ROW = 22;

/** The lineage: a node for each version, and a line for each label from its learning to its forgetting.
 * versions: oldest first. */
export function lineage(model, versions) {
  const names = [...new Set(versions.flatMap((version) => version.labels))];
  const x = (index) => LEFT + 30 + index * STEP;
  const top = 46;
  const [width, height] = [x(versions.length - 1) + 60, top + 34 + names.length * ROW + 10];
  const drawing = svg("svg.lineage", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": describeLineage(versions, names) });
  const aliases = Object.entries(model.aliases);
  const indexOf = new Map(versions.map((version, index) => [version.number, index]));
  versions.forEach((version, index) => {
    const parent = indexOf.get(version.parent);
    if (parent !== undefined) drawing.append(svg("path.edge", { d: `M${x(parent) + 14} ${top}H${x(index) - 17}l-6 -4v8l6 -4` }));
  });
  versions.forEach((version, index) => {
    const named = [...(version.number === model.head ? ["head"] : []), ...aliases.filter(([, number]) => number === version.number).map(([name]) => name)];
    const node = svg("g", {},
      svg(`circle.node.${versionState(version) || "drawable"}`, { cx: x(index), cy: top, r: 14 }),
      svg("text.middle.number", { x: x(index), y: top + 4.5 }, String(version.number)));
    drawing.append(node, svg("text.middle.alias", { x: x(index), y: 17 }, shorten(named.join(", "), 11)), svg("text.middle.change", { x: x(index), y: top + 30 }, version.operation));
  });
  names.forEach((name, row) => {
    const y = top + 52 + row * ROW;
    drawing.append(svg("text.end.name", { x: LEFT - 4, y: y + 4 }, shorten(name, 8)));
    versions.forEach((version, index) => {
      const holds = version.labels.includes(name);
      const held = index > 0 && versions[index - 1].labels.includes(name);
      if (holds) {
        const follows = versions[index + 1]?.labels.includes(name);
        if (follows) drawing.append(svg("path.held", { d: `M${x(index)} ${y}H${x(index + 1)}` }));
        drawing.append(svg(`circle.held${isDrawable(version) ? "" : ".revoked"}`, { cx: x(index), cy: y, r: 4.5 }));
      } else if (held) drawing.append(svg("path.gone", { d: `M${x(index) - STEP + 5} ${y}H${x(index) - 6}` }), svg("path.cross", { d: `M${x(index) - 4} ${y - 4}l8 8m0 -8l-8 8` }));
    });
  });
  return h("div.scroll.lineage-scroll", { tabindex: "0", role: "region", "aria-label": "Lineage of the versions" }, drawing);
}

const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function describeLineage(versions, names) {
  const steps = versions.map((version, index) => `version ${version.number}: ${describeChange(version, versions[index - 1])}${versionState(version) ? `, ${versionState(version)}` : ""}`);
  return `Lineage of ${versions.length} versions and the labels ${list(names)}. ${steps.join("; ")}.`;
}

const versionTicks = (versions) => versions.map((version) => ({ x: version.number, text: `v${version.number}` }));

/** The accuracy of the kept and the forgotten labels, version by version. */
export function accuracyPlot(versions) {
  const points = (group) =>
    versions.filter((version) => version.figures[group].value !== null).map((version) => {
      const { value, interval } = version.figures[group];
      return { x: version.number, y: value, low: interval?.[0], high: interval?.[1], text: `version ${version.number}: ${percent(value)}` };
    });
  const kept = { name: "kept labels", className: "kept", points: points("retained") };
  const gone = { name: "forgotten labels", className: "gone", points: points("forgotten") };
  const series = [kept, gone].filter((one) => one.points.length);
  if (series.length === 0) return h("p.note", {}, "Not measured.");
  const label = series.map((one) => `${capitalize(one.name)}: ${one.points.map((point) => point.text).join(", ")}`).join(". ");
  return linePlot({ series, format: (value) => `${Math.round(value * 100)} %`, ticks: versionTicks(versions), label, top: 1 });
}

export function sizePlot(versions) {
  const points = versions.map((version) => ({ x: version.number, y: version.parameters, text: `version ${version.number}: ${shortNumber(version.parameters)}` }));
  const label = `Parameters: ${points.map((point) => point.text).join(", ")}`;
  return linePlot({ series: [{ name: "", className: "kept", points }], format: shortNumber, ticks: versionTicks(versions), label });
}

/** The accuracy of one forgotten label in every version since. points: of /relapse. */
export function relapsePlot({ label, series }) {
  const points = series.filter((point) => point.value !== null).map((point) => ({
    x: point.version, y: point.value, low: point.interval?.[0], high: point.interval?.[1], missed: point.verdict === "missed", text: `version ${point.version}: ${percent(point.value)}`,
  }));
  if (points.length === 0) return h("p.note", {}, series.at(-1)?.reason ?? "Not measured.");
  const threshold = series.findLast((point) => point.threshold)?.threshold;
  const limit = threshold ? { y: threshold.limit, text: `limit ${percent(threshold.limit)}` } : null;
  const ticks = points.map((point) => ({ x: point.x, text: `v${point.x}` }));
  return linePlot({ series: [{ name: "", className: "gone", points }], format: percent, ticks, limit, height: 150, label: `${label} since it was forgotten: ${points.map((point) => point.text).join(", ")}` });
}

/** The list of versions, newest first. versions: oldest first. on: {promote, describe, remove}, called with one. */
export function versionList(model, versions, on) {
  const largest = Math.max(...versions.map((version) => version.parameters));
  return h("ol.versions", { "aria-label": `Versions of ${model.name}, newest first` }, versions.map((version, index) => versionItem(model, version, versions[index - 1], largest, on)).reverse());
}

function versionItem(model, version, before, largest, on) {
  const state = versionState(version);
  const bar = h("span.bar");
  bar.style.inlineSize = `${(100 * version.parameters) / largest}%`;
  const { retained, forgotten } = version.figures;
  const job = version.revoked_by ?? version.purged_by;
  const figures = [retained.value !== null && `kept ${percent(retained.value)}`, forgotten.value !== null && `forgotten ${percent(forgotten.value)}`].filter(Boolean);
  return h(
    `li.version${state ? ".revoked" : ""}`, { "data-number": version.number },
    h("div.what", {},
      h("a.number", { href: version.links.report }, `Version ${version.number}`), " ", h("span.change", {}, describeChange(version, before)),
      h("span.names", {}, version.number === model.head && h("span.tag", {}, "head"), (version.aliases ?? []).map((name) => h("span.tag", {}, name)))),
    h("div.holds", {}, state && job ? h("a", { href: `/jobs/${job}`, title: "The job that forgot a label of this version" }, STATES[state]) : state ? STATES[state] : `draws ${version.labels.join(" ")}`),
    h("div.size", {}, h("span.track", {}, bar), h("span.count", {}, `${shortNumber(version.parameters)} parameters`), h("span.widths", {}, widthsText(version.widths))),
    h("div.figures", {}, figures.join(", ") || "not measured", describedBy(version)),
    h("div.links", {},
      h("a", { href: `/jobs/${version.job}` }, "job"),
      before && h("a", { href: `${modelPath(model.name)}/compare?from=${before.number}&to=${version.number}` }, `compare with ${before.number}`),
      h("a", { href: version.links.self, class: "json" }, "JSON"),
      h("button.small", { type: "button", click: () => on.describe(version), "aria-label": `Describe version ${version.number}` }, "describe…"),
      isDrawable(version) && h("button.small", { type: "button", click: () => on.promote(version), "aria-label": `Promote version ${version.number}` }, "promote…"),
      version.number !== model.head && state !== "purged" && state !== "deleted" && h("button.small", { type: "button", click: () => on.remove(version), "aria-label": `Delete version ${version.number}` }, "delete…")),
  );
}

const widthsText = (widths) => Object.entries(widths).filter(([, units]) => Array.isArray(units)).map(([name, units]) => `${words(name)} ${units.join("-")}`).join(", ");
