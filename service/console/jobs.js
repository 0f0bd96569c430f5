// A job in one line: what it is, its state, its bar, and what it says.

import { h, setText } from "./elements.js";
import { duration, words } from "./format.js";

export function jobTitle(job) {
  const separator = job.labels.some((name) => name.length > 1) ? ", " : " ";
  if (job.labels.length) return `${job.operation} ${job.labels.join(separator)}`;
  if (job.operation === "evaluate") return `evaluate version ${job.evaluated_version ?? "head"}`;
  return `${job.operation} by ${words(job.strategy)}`;
}

export const jobPath = (job) => `/jobs/${job.id}`;

export function jobItem(job) {
  const title = jobTitle(job);
  return h(
    "li.job", {},
    h("a.title", { href: jobPath(job) }, title), h("span.state"),
    h("progress", { max: "1", "aria-label": title }), h("span.detail"),
  );
}

export function updateJobItem(node, job) {
  node.dataset.state = job.state;
  setText(node.querySelector(".state"), job.state);
  updateBar(node.querySelector("progress"), job);
  setText(node.querySelector(".detail"), describeProgress(job));
}

export function updateBar(bar, job) {
  bar.hidden = job.done;
  if (job.state === "queued") bar.value = 0;
  else if (job.progress?.total > 1) bar.value = job.progress.fraction;
  else bar.removeAttribute("value");
}

export function describeProgress(job) {
  if (job.error) return job.error.message;
  if (job.state === "queued") {
    const position = job.queue_position;
    return position ? `${position} ${position === 1 ? "job" : "jobs"} before it` : "next in the queue";
  }
  if (job.state === "cancelled") return "cancelled before it changed anything";
  if (job.done) return [job.output_version && `made version ${job.output_version}`, job.cost && duration(job.cost.seconds)].filter(Boolean).join(" · ");
  const parts = [];
  if (job.progress) {
    const { phase, step, total, loss, eta_seconds: eta } = job.progress;
    parts.push(words(phase));
    if (total > 1) parts.push(`step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    if (loss !== null) parts.push(`loss ${loss.toFixed(1)}`);
    if (eta !== null) parts.push(`about ${Math.ceil(eta)} s left`);
  }
  if (job.attempt > 1) parts.push(`attempt ${job.attempt} of ${job.max_attempts}`);
  return parts.join(" · ");
}
