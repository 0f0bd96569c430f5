// One job: its phase, loss and log while it runs; why it ended; its receipt.

import { Refused, get, modelPath, post } from "../api.js";
import { openDialog } from "../dialogs.js";
import { card, h, renderOnce, setText } from "../elements.js";
import { capitalize, duration, moment, number, percent, words } from "../format.js";
import { describeProgress, jobTitle, updateBar } from "../jobs.js";
import { linePlot } from "../plots.js";
import { readReceipt, receiptCard } from "../receipts.js";
import { follow } from "../following.js";
import { IDLE_MS, refreshNow } from "../refreshing.js";

const ENDED = {
  succeeded: "It is done.",
  failed: "It failed, and changed nothing.",
  rejected: "Its candidate missed the acceptance criteria: nothing was published.",
  cancelled: "It was cancelled, and changed nothing.",
};

export function open(id) {
  const path = `/v1/jobs/${id}`;
  const losses = [];
  let job = null;
  let receipt = null;
  const parts = {
    state: h("p.job-state", { role: "status" }), bar: h("progress", { max: "1" }), detail: h("p.detail"), actions: h("div.actions"),
    ended: h("div"), loss: h("div"), log: h("ol.log", { "aria-label": "Log" }), facts: h("dl.facts"), params: h("div"), receipt: h("div"), links: h("ul.related"),
  };
  const title = h("h1", {}, "Job");
  const breadcrumb = h("p.breadcrumb", {}, h("a", { href: "/jobs" }, "Jobs"), " /");
  const node = h(
    "div", {}, breadcrumb, h("div.page-head", {}, title, parts.actions),
    h("section.card", { "aria-label": "State" }, parts.state, parts.bar, parts.detail, parts.ended, parts.links),
    card("loss", "Loss", "of the phase that trains", parts.loss), card("log", "Log", null, parts.log),
    parts.receipt, card("facts", "What was requested", null, parts.facts, parts.params),
    h("p.json", {}, h("a", { href: path }, "This job as JSON")),
  );

  let stream = null;

  /** An event tells more than the job itself: the course of the loss, and lines about what it does. */
  function hear(event) {
    if (event.type === "progress") {
      note(event.progress, event.created_at);
      if (job && !job.done) job.progress = event.progress;
    } else if (event.type === "log") write(event.created_at, event.message);
    else refreshNow();
    if (job) render();
  }

  async function refresh() {
    if (job?.done && (receipt !== null || job.links.receipt === undefined)) return 5 * IDLE_MS;
    job = await get(path);
    stream ??= follow(path, hear);
    if (job.links.receipt && receipt === null) receipt = await findReceipt();
    render();
    return job.done ? IDLE_MS : 2 * IDLE_MS;
  }

  /** The receipt may have to wait until what it deletes is deleted. */
  async function findReceipt() {
    try {
      return await readReceipt(job.links.receipt);
    } catch (error) {
      if (error instanceof Refused) return null;
      throw error;
    }
  }

  function write(moment, text) {
    parts.log.append(h("li", {}, h("time", {}, new Date(moment).toLocaleTimeString("en-GB")), ` ${text}`));
  }

  function note(progress, moment) {
    if (!progress) return;
    const { phase, step, loss } = progress;
    const last = losses.at(-1);
    if (loss !== null && (last?.phase !== phase || last.step !== step)) losses.push({ phase, step, loss });
    if (parts.log.dataset.phase !== phase) write(moment, words(phase));
    parts.log.dataset.phase = phase;
  }

  function render() {
    const name = jobTitle(job);
    document.title = `${job.state}: ${name} · Palimpsest`;
    setText(title, capitalize(name));
    renderOnce(breadcrumb, job.model_name, () => [h("a", { href: "/jobs" }, "Jobs"), " / ", h("a", { href: modelPath(job.model_name) }, job.model_name), " /"]);
    node.dataset.state = job.state;
    setText(parts.state, `${job.state}${job.done ? `. ${ENDED[job.state] ?? ""}` : ""}`);
    parts.bar.setAttribute("aria-label", name);
    updateBar(parts.bar, job);
    setText(parts.detail, job.error ? "" : describeProgress(job));
    renderOnce(parts.ended, job.error, () => job.error ? explainError(job.error) : []);
    renderOnce(parts.actions, [job.done, job.state], () => actions());
    renderOnce(parts.links, job.links, () => related());
    node.querySelector("[aria-labelledby=loss]").hidden = losses.length < 2;
    renderOnce(parts.loss, losses, () => (losses.length < 2 ? [] : lossPlot(losses)));
    node.querySelector("[aria-labelledby=log]").hidden = parts.log.children.length === 0;
    renderOnce(parts.facts, [job.state, job.cost], () => facts());
    renderOnce(parts.params, job.params, () => h("details", {}, h("summary", {}, "Params, with every default filled in"), h("pre", { tabindex: "0" }, JSON.stringify(job.params, null, 2))));
    renderOnce(parts.receipt, receipt?.verdict ?? null, () => (receipt ? receiptCard(receipt, job.links.receipt, `receipt-${job.id}.json`) : []));
  }

  function actions() {
    if (!job.done) return [h("button.plain", { type: "button", click: cancel, disabled: job.state === "cancelling" }, "Cancel…")];
    if (job.state !== "succeeded") return [h("button", { type: "button", click: retry }, "Retry…")];
    return [];
  }

  const cancel = () => openDialog({
    title: `Cancel ${jobTitle(job)}?`, action: "Cancel the job", dangerous: true,
    body: [h("p", {}, "It ends at its next step. The model stays as it is; what the job has computed is lost."), job.followed_by && h("p", {}, "The resize that follows it is cancelled, too.")].filter(Boolean),
    run: (key) => post(`${path}/cancel`, undefined, key),
  });

  const retry = () => openDialog({
    title: `Retry ${jobTitle(job)}?`, action: "Retry", done: (made) => location.assign(`/jobs/${made.id}`),
    body: [h("p", {}, "A new job has the same labels, params, seed and criteria, and starts from the model as it is now. This one stays as it is.")],
    run: (key) => post(`${path}/retry`, undefined, key),
  });

  function related() {
    const version = job.evaluated_version ?? job.output_version;
    return [
      version && h("li", {}, h("a", { href: `${modelPath(job.model_name)}` }, `model ${job.model_name}`)),
      version && h("li", {}, h("a", { href: `${job.links.version}/report` }, `report of version ${version}`)),
      job.output_version > 1 && h("li", {}, h("a", { href: `${modelPath(job.model_name)}/compare?from=${job.output_version - 1}&to=${job.output_version}` }, "before and after")),
      job.retry_of && h("li", {}, h("a", { href: `/jobs/${job.retry_of}` }, "the job that it repeats")),
      job.follows && h("li", {}, h("a", { href: `/jobs/${job.follows}` }, "the job that it follows")),
      job.followed_by && h("li", {}, h("a", { href: `/jobs/${job.followed_by}` }, "the resize that follows it")),
      job.state === "rejected" && job.links.report && h("li", {}, h("a", { href: job.links.report }, "report of the candidate, as JSON")),
    ].filter(Boolean);
  }

  function facts() {
    const rows = [
      ["Model", h("a", { href: modelPath(job.model_name) }, job.model_name)],
      job.labels.length && ["Labels", job.labels.join(", ")],
      job.made_permanent.length && ["Made permanent", `${job.made_permanent.join(", ")}: forgetting is no longer exact`],
      ["Strategy", words(job.strategy)],
      Object.keys(job.packages).length && ["Packages", Object.entries(job.packages).map(([kind, name]) => `${kind} from ${name}`).join(", ")],
      job.guarantee && ["Guarantee", job.guarantee],
      ["Started from", job.base_version ? `version ${job.base_version}` : "—"],
      ["Seed", job.seed],
      (job.queue !== "default" || job.priority !== 0) && ["Queue", `${job.queue}, priority ${job.priority}`],
      job.waits_for && ["Waits, because", job.waits_for],
      Object.keys(job.acceptance).length && ["Acceptance criteria", Object.entries(job.acceptance).map(([name, limit]) => `${words(name)} ${percent(limit)}`).join(", ")],
      job.reference && ["Reference", job.reference],
      ["Accepted", moment(job.created_at)], ["Started", moment(job.started_at)], ["Finished", moment(job.finished_at)],
      ["Attempt", `${job.attempt} of ${job.max_attempts}`],
      job.cost && ["Cost", `${duration(job.cost.seconds)} of work, ${number(job.cost.examples)} real images`],
      job.cost?.phases && ["Of that", Object.entries(job.cost.phases).map(([name, seconds]) => `${words(name)} ${duration(seconds)}`).join(", ")],
      ["Id", h("code", {}, job.id)],
    ];
    return rows.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  }

  return { node, refresh };
}

function explainError(error) {
  const reasons = error.reasons ?? [];
  return h(
    "div.reason-box", {},
    h("p", {}, error.message),
    reasons.length > 0 && h("ul.criteria", {}, reasons.map((one) => h("li", {}, `${words(one.criterion)}${one.label ? ` of ${one.label}` : ""}: `, h("b", {}, percent(one.value)), one.threshold && `, limit ${one.threshold.op === ">=" ? "at least" : "at most"} ${percent(one.threshold.limit)} `, h("span.verdict.missed", {}, one.verdict), one.reason && `; ${one.reason}`))),
    h("p.note", {}, `${error.type.replaceAll("_", " ")} · ${error.code}${error.retryable ? " · may be retried" : ""}`),
  );
}

function lossPlot(losses) {
  const phase = losses.at(-1).phase;
  const own = losses.filter((one) => one.phase === phase);
  const points = own.map(({ step, loss }) => ({ x: step, y: loss, text: `step ${step}: ${number(loss)}` }));
  const ends = [...new Set([points[0].x, points.at(-1).x])];
  const bottom = Math.min(0, ...points.map((point) => point.y));
  return [linePlot({ series: [{ name: "", className: "kept", points }], format: number, bottom, ticks: ends.map((x) => ({ x, text: `step ${x.toLocaleString("en")}` })), label: `Loss of ${words(phase)}: from ${number(points[0].y)} to ${number(points.at(-1).y)}` }), h("p.note", {}, capitalize(words(phase)))];
}
