// Webhooks: addresses that are told what happens. The secret of one is shown once.

import { get, post, remove } from "../api.js";
import { field, openDialog } from "../dialogs.js";
import { card, h, renderOnce } from "../elements.js";
import { count, moment } from "../format.js";
import { IDLE_MS, refreshNow } from "../refreshing.js";

const TYPES = {
  "job.finished": "a job has ended, in whatever way",
  "version.published": "a model has a new version",
  "label.forgotten": "a label was forgotten: a message for each",
  "label.relapsed": "a new version draws a forgotten label more often than allowed",
};

export function open() {
  const list = h("div");
  const shown = h("div", { role: "status" });
  const chosen = { webhook: null };
  const deliveries = h("div");
  const node = h("div", {}, h("div.page-head", {}, h("h1", {}, "Webhooks"), h("button", { type: "button", click: () => openNew(shown) }, "Create a webhook")),
    h("p.tagline", {}, "Addresses that are told, by signed messages, what happens in this project."), shown, list, deliveries, h("p.json", {}, h("a", { href: "/v1/webhooks" }, "The webhooks as JSON")));

  const show = (webhook) => {
    chosen.webhook = webhook;
    refreshNow();
  };

  async function refresh(turn) {
    document.title = "Webhooks · Palimpsest";
    if (turn % 2 === 0 || !chosen.webhook) {
      const { data } = await get("/v1/webhooks?limit=100");
      if (!data.some((one) => one.id === chosen.webhook?.id)) chosen.webhook = null;
      renderOnce(list, data, () => data.length ? card("webhooks", "Webhooks", "newest first", h("ul.keys", {}, data.map((one) => webhookItem(one, show)))) : h("p.note", {}, "There is no webhook. A program can also ask: jobs have events."));
    }
    if (chosen.webhook) await showDeliveries();
    else renderOnce(deliveries, null, () => []);
    return 2 * IDLE_MS;
  }

  async function showDeliveries() {
    const { id, url } = chosen.webhook;
    const { data } = await get(`/v1/webhooks/${id}/deliveries?limit=25`);
    renderOnce(deliveries, [id, data], () => card("deliveries", "Messages", `to ${url}, newest first`, data.length ? h("ul.keys.messages", {}, data.map(deliveryItem)) : h("p.note", {}, "None yet. “test” sends one.")));
  }

  return { node, refresh };
}

function webhookItem(webhook, show) {
  const state = webhook.disabled_at ? `given up ${moment(webhook.disabled_at)}: create it again` : `since ${moment(webhook.created_at)}`;
  const button = (text, name, click) => h("button.small", { type: "button", "aria-label": `${name} ${webhook.url}`, click }, text);
  const test = async () => {
    await post(`/v1/webhooks/${webhook.id}/test`);
    show(webhook);
  };
  return h(
    `li${webhook.disabled_at ? ".unusable" : ""}`, {},
    h("b.address", {}, webhook.url), h("span.scopes", {}, webhook.types.map((type) => h("span.tag", {}, type))), h("span.note", {}, state),
    h("span.row", {}, button("messages", "Messages to", () => show(webhook)), button("test", "Send a test to", test), button("delete…", "Delete", () => openDelete(webhook))),
  );
}

function deliveryItem(message) {
  const answer = message.state === "delivered" ? `answered ${message.status}` : message.error ?? (message.state === "pending" ? "is sent in a moment" : "");
  const next = message.state === "pending" && message.attempts > 0 && message.next_at ? `, again ${moment(message.next_at)}` : "";
  return h("li", { "data-state": message.state }, h("b", {}, message.type), h("span.state", {}, message.state), h("span.note", {}, `${moment(message.created_at)} · ${count(message.attempts, "attempt")} · ${answer}${next}`));
}

const openDelete = (webhook) => openDialog({
  title: "Delete this webhook?", action: "Delete", dangerous: true,
  body: [h("p", {}, `${webhook.url} is told nothing any more. Messages that wait to be sent again are dropped, and the list of its messages is deleted. This cannot be undone.`)],
  run: () => remove(`/v1/webhooks/${webhook.id}`),
});

function openNew(shown) {
  const address = h("input", { type: "url", required: true, maxlength: "2000", autocomplete: "off", placeholder: "https://example.org/hook" });
  const boxes = Object.keys(TYPES).map((type) => h("input", { type: "checkbox", value: type, checked: type === "job.finished" }));
  const types = h("fieldset", {}, h("legend", {}, "What it is told"), boxes.map((box) => h("label.choice.wide", {}, box, h("span", {}, h("b", {}, box.value), ` ${TYPES[box.value]}`))));
  const done = (webhook) => {
    shown.replaceChildren(card("new-webhook", "The secret of the new webhook", null, h("p", {}, `It signs the messages to ${webhook.url}. Give it to whoever receives them; nobody can read it again.`), h("pre", { tabindex: "0" }, webhook.secret ?? "It was shown in the first answer.")));
    refreshNow();
  };
  openDialog({
    title: "Create a webhook", action: "Create", done,
    body: [field("Address", address, "An https address on the public internet."), types, h("p.note", {}, "A message counts as delivered if the answer is 200 to 299. Otherwise it is sent again, ever more rarely, for three days.")],
    run: (key) => post("/v1/webhooks", { url: address.value.trim(), types: boxes.filter((box) => box.checked).map((box) => box.value) }, key),
  });
}
