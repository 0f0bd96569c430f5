// All jobs, newest first: of one model or in one state, if asked so.

import { get } from "../api.js";
import { select } from "../dialogs.js";
import { h, setText, updateChildren } from "../elements.js";
import { moment } from "../format.js";
import { jobItem, updateJobItem } from "../jobs.js";
import { BUSY_MS, IDLE_MS, refreshNow } from "../refreshing.js";

const STATES = ["queued", "running", "verifying", "cancelling", "succeeded", "failed", "rejected", "cancelled"];
const PAGE = 25;

export function open() {
  const query = new URLSearchParams(location.search);
  const state = select([{ value: "", text: "any state" }, ...STATES.map((value) => ({ value, text: value }))], query.get("state") ?? "");
  state.id = "state";
  const model = h("input", { id: "model", type: "search", value: query.get("model") ?? "", placeholder: "name of a model", autocomplete: "off" });
  const list = h("ul.jobs.long", { "aria-label": "Jobs" });
  const summary = h("p.summary", { role: "status" });
  const more = h("button.plain", { type: "button", hidden: true }, "Show older jobs");
  const node = h("div", {}, h("div.page-head", {}, h("h1", {}, "Jobs")), h("div.row.tools", {}, h("label", { for: "model" }, "Model"), model, h("label", { for: "state" }, "State"), state, summary), h("div.card", {}, list), more);
  let limit = PAGE;
  const start = () => {
    limit = PAGE;
    refreshNow();
  };
  state.addEventListener("change", start);
  model.addEventListener("change", start);
  more.addEventListener("click", () => {
    limit += PAGE;
    refreshNow();
  });

  async function refresh() {
    document.title = "Jobs · Palimpsest";
    const jobs = [];
    let next = null;
    do {
      const asked = new URLSearchParams({ limit: Math.min(limit - jobs.length, 100) });
      if (state.value) asked.set("state", state.value);
      if (model.value.trim()) asked.set("model", model.value.trim());
      if (next) asked.set("after", next);
      const page = await get(`/v1/jobs?${asked}`);
      jobs.push(...page.data);
      next = page.next;
    } while (next && jobs.length < limit);
    updateChildren(list, jobs, (job) => job.id, makeItem, updateJobItem);
    setText(summary, jobs.length === 0 ? "No such job." : "");
    more.hidden = next === null;
    return jobs.some((job) => !job.done) ? BUSY_MS : IDLE_MS;
  }

  return { node, refresh };
}

function makeItem(job) {
  const item = jobItem(job);
  item.querySelector(".title").after(h("span.of", {}, job.model_name, " ", h("time", { datetime: job.created_at }, moment(job.created_at))));
  return item;
}
