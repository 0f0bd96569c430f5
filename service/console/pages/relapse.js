// Whether forgotten labels stayed forgotten: each of them in every version since.

import { get, modelApi, modelPath } from "../api.js";
import { card, h, renderOnce } from "../elements.js";
import { number, percent, words } from "../format.js";
import { relapsePlot } from "../history.js";
import { IDLE_MS } from "../refreshing.js";

export function open(name) {
  const place = h("div");
  const node = h("div", {}, h("p.breadcrumb", {}, h("a", { href: "/" }, "Models"), " / ", h("a", { href: modelPath(name) }, name), " /"), h("h1", {}, "Did it stay forgotten?"),
    h("p.tagline", {}, "After every job the judge looks at what each forgotten label is drawn as. A label that is recognised more often than its limit allows has relapsed. A judge that misses thresholds of its own gives figures and no verdict."), place,
    h("p.json", {}, h("a", { href: `${modelApi(name)}/relapse` }, "These figures as JSON")));

  async function refresh() {
    document.title = `Relapse of ${name} · Palimpsest`;
    const found = await get(`${modelApi(name)}/relapse`);
    renderOnce(place, found, () => found.labels.length ? found.labels.map((one, index) => labelCard(name, one, index)) : h("p.note", {}, "This model has forgotten nothing yet."));
    return 2 * IDLE_MS;
  }

  return { node, refresh };
}

function labelCard(model, one, index) {
  const last = one.series.at(-1);
  const verdict = one.relapsed ? h("span.verdict.missed", {}, "relapsed")
    : one.status !== "forgotten" ? h("span.verdict.met", {}, `is ${one.status} again`)
    : last?.verdict ? h("span.verdict.met", {}, "stayed forgotten") : h("span.verdict.none", {}, "no verdict");
  const why = one.status === "forgotten" && last?.value !== null && last?.reason;
  return card(
    `label-${index}`, `Label ${one.label}`, verdict,
    h("p.big", {}, percent(last?.value), h("small", {}, last?.threshold ? ` limit ${percent(last.threshold.limit)}` : "")),
    relapsePlot(one),
    why && h("p.note", {}, `No verdict: ${why}.`),
    h("details", {}, h("summary", {}, "Every version"), h("div.scroll", { tabindex: "0", role: "region", "aria-label": `Figures of ${one.label}` }, h("table", {},
      h("thead", {}, h("tr", {}, ["version", "made by", "recognised", "95 % interval", "of images", "verdict"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, one.series.map((point) => h("tr", {},
        h("th", { scope: "row" }, h("a", { href: `${modelApi(model)}/versions/${point.version}/report` }, point.version)),
        h("td", {}, `${point.operation} by ${words(point.strategy)}`), h("td", {}, percent(point.value)), h("td", {}, point.interval ? `${percent(point.interval[0])} to ${percent(point.interval[1])}` : "—"), h("td", {}, number(point.n)), h("td", {}, point.verdict ? h(`span.verdict.${point.verdict}`, {}, point.verdict) : point.reason ?? "—"))))))),
  );
}
