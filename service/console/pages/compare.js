// Two versions side by side: what each label looks like in both, and every figure.

import { get, modelApi, modelPath } from "../api.js";
import { select } from "../dialogs.js";
import { card, h, renderOnce } from "../elements.js";
import { duration, list, moment, number, percent, words } from "../format.js";
import { isDrawable } from "../history.js";
import { findPair } from "../pairs.js";
import { IDLE_MS } from "../refreshing.js";
import { beforeAfter } from "../slider.js";

export function open(name) {
  const query = new URLSearchParams(location.search);
  const place = h("div");
  const tools = h("div");
  const node = h("div", {}, h("p.breadcrumb", {}, h("a", { href: "/" }, "Models"), " / ", h("a", { href: modelPath(name) }, name), " /"), h("h1", {}, "Compare two versions"), tools, place);
  let shown = null;

  async function refresh() {
    document.title = `Compare versions of ${name} · Palimpsest`;
    const page = await get(`${modelApi(name)}/versions?limit=100`);
    const versions = page.data;
    if (versions.length < 2) {
      renderOnce(place, "none", () => h("p.note", {}, "There will be something to compare once there are two versions."));
      return 2 * IDLE_MS;
    }
    const from = query.get("from") ?? versions[1].number;
    const to = query.get("to") ?? versions[0].number;
    shown ??= await get(`${modelApi(name)}/compare?from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`);
    renderOnce(tools, versions.map((version) => version.number), () => choice(versions));
    const states = versions.map(({ number: of, revoked_by, purged_by, files }) => [of, revoked_by, purged_by, Object.keys(files)]);
    renderOnce(place, states, () => comparison(name, shown, versions));
    return 4 * IDLE_MS;
  }

  function choice(versions) {
    const options = versions.map((version) => ({ value: version.number, text: `version ${version.number}: ${version.operation}${isDrawable(version) ? "" : " (revoked)"}` }));
    const [from, to] = [select(options, shown.from.version), select(options, shown.to.version)];
    from.id = "from";
    to.id = "to";
    const go = () => location.assign(`${modelPath(name)}/compare?from=${from.value}&to=${to.value}`);
    return h("div.row.tools", {}, h("label", { for: "from" }, "From"), from, h("label", { for: "to" }, "To"), to, h("button", { type: "button", click: go }, "Compare"));
  }

  return { node, refresh };
}

function comparison(name, found, versions) {
  const [from, to] = [found.from, found.to].map((side) => versions.find((version) => version.number === side.version));
  const changes = [found.learned.length && `learned ${list(found.learned)}`, found.forgotten.length && `forgot ${list(found.forgotten)}`].filter(Boolean);
  return [
    h("p.tagline", {}, changes.length ? `From version ${found.from.version} to ${found.to.version} the model ${list(changes)}.` : "Both versions draw the same labels."),
    h("div.sides", {}, side(name, found.from), side(name, found.to)),
    from && to && card("pictures", "Before and after", "the same seeds, not selected", pictures(name, found, from, to)),
    card("figures", "Figures", `${found.from.level} reports`, figures(found)),
    h("p.json", {}, h("a", { href: `${modelApi(name)}/compare?from=${found.from.version}&to=${found.to.version}` }, "This comparison as JSON")),
  ];
}

const side = (name, one) => h(
  "section.card", { "aria-label": `Version ${one.version}` },
  h("h2", {}, h("a", { href: `${modelApi(name)}/versions/${one.version}/report` }, `Version ${one.version}`)),
  h("p", {}, `${one.operation} by ${words(one.strategy)}, ${moment(one.created_at)}${one.seconds ? `, ${duration(one.seconds)}` : ""}`),
  h("p", {}, `draws ${one.labels.join(" ") || "nothing"}`),
  one.revoked_by && h("p.note", {}, h("a", { href: `/jobs/${one.revoked_by}` }, "Revoked"), ": nobody may draw from it any more. Pictures from before were saved with the version that forgot."),
);

/** For each label: two pictures on top of each other, or what there is instead. */
function pictures(name, found, from, to) {
  const names = [...new Set([...found.forgotten, ...found.to.labels, ...found.from.labels])];
  const shown = names.map((label) => {
    const [before, after] = findPair(name, label, from, to);
    const title = h("h3", {}, label, found.forgotten.includes(label) && h("span.tag.gone", {}, "forgotten"), found.learned.includes(label) && h("span.tag", {}, "learned"));
    if (before && after) return h("li", {}, title, beforeAfter({ before, after, name: label, height: before.rows * 56 }));
    const only = before ?? after;
    if (only) return h("li", {}, title, h("figure.single", {}, h("img", { src: only.src, alt: `${label}: ${only.caption}`, width: "448", height: only.rows * 56 }), h("figcaption", {}, only.caption)));
    return h("li", {}, title, h("p.note", {}, "No picture may be shown: these versions hold a label that was forgotten, or their files were purged."));
  });
  return h("ul.sliders", {}, shown);
}

const isShare = (figure) => /^(retained|forgotten|forgetting\.labels\.[^.]+\.accuracy)/.test(figure);
const KINDS = { retained: "kept", forgotten: "forgotten", capacity: "size" };

function figures(found) {
  const isMain = ({ figure, clear }) => figure === "retained" || figure === "forgotten" || figure.startsWith("capacity") || clear === true;
  const main = found.figures.filter(isMain);
  const rest = found.figures.filter((one) => !isMain(one));
  return [figureTable(found, main, "The means, the size, and what changed clearly"), rest.length > 0 && h("details", {}, h("summary", {}, `${rest.length} further figures`), figureTable(found, rest, "Further figures"))].filter(Boolean);
}

function figureTable(found, rows, label) {
  const text = (figure, one) => (one === null || one.value === null ? "—" : isShare(figure) ? percent(one.value) : number(one.value));
  const change = ({ figure, change: by }) => (by === null ? "—" : `${by > 0 ? "+" : by < 0 ? "−" : ""}${isShare(figure) ? `${(Math.abs(by) * 100).toFixed(1)} points` : number(Math.abs(by))}`);
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("caption", {}, label),
    h("thead", {}, h("tr", {}, ["figure", `v${found.from.version}`, `v${found.to.version}`, "change"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((one) => h("tr", {}, h("th", { scope: "row" }, nameOf(one.figure)), h("td", {}, text(one.figure, one.from)), h("td", {}, text(one.figure, one.to)), h("td", {}, change(one), one.clear && h("span.clear", { title: "The 95 % intervals do not overlap" }, " clearly")))))));
}

const nameOf = (figure) => {
  const [first, ...rest] = figure.split(".");
  return [KINDS[first] ?? words(first), ...rest.filter((step) => step !== "labels").map(words)].join(" · ");
};
