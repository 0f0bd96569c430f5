// API keys: create, list and revoke them. The text of a key is shown once.

import { get, post, remove } from "../api.js";
import { field, openDialog, select } from "../dialogs.js";
import { card, h, renderOnce } from "../elements.js";
import { moment } from "../format.js";
import { IDLE_MS, refreshNow } from "../refreshing.js";

const SCOPES = { read: "see models, jobs, versions and reports", sample: "draw images, download decoders", learn: "create models, learn, resize, evaluate, upload, promote", forget: "forget, purge, delete images", admin: "keys, projects, audit, delete models" };

export function open() {
  const list = h("div");
  const shown = h("div", { role: "status" });
  const node = h("div", {}, h("div.page-head", {}, h("h1", {}, "API keys"), h("button", { type: "button", click: () => openNew(shown) }, "Create a key")),
    h("p.tagline", {}, "Programs send a key as ", h("code", {}, "Authorization: Bearer KEY"), ". Only its hash is stored."), shown, list, h("p.json", {}, h("a", { href: "/v1/keys" }, "The keys as JSON")));

  async function refresh() {
    document.title = "API keys · Palimpsest";
    const page = await get("/v1/keys?limit=100");
    renderOnce(list, page.data, () => page.data.length ? card("keys", "Keys", "newest first", h("ul.keys", {}, page.data.map(keyItem))) : h("p.note", {}, "There is no key. Without PALIMPSEST_AUTH=on none is needed on this machine."));
    return 4 * IDLE_MS;
  }

  return { node, refresh };
}

function stateOf(key) {
  if (key.revoked_at) return `revoked ${moment(key.revoked_at)}`;
  if (key.expires_at) return `${new Date(key.expires_at) < new Date() ? "expired" : "expires"} ${moment(key.expires_at)}`;
  return "valid until it is revoked";
}

function keyItem(key) {
  const isUsable = !key.revoked_at && !(key.expires_at && new Date(key.expires_at) < new Date());
  return h(
    `li${isUsable ? "" : ".unusable"}`, {},
    h("b", {}, key.name), h("span.scopes", {}, key.scopes.map((scope) => h("span.tag", {}, scope))),
    h("span", {}, key.project ?? "whole deployment"), h("span.note", {}, `${stateOf(key)} · last used ${key.last_used_at ? moment(key.last_used_at) : "never"}`),
    isUsable && h("button.small", { type: "button", "aria-label": `Revoke ${key.name}`, click: () => openRevoke(key) }, "revoke…"),
  );
}

const openRevoke = (key) => openDialog({
  title: `Revoke ${key.name}?`, action: "Revoke", dangerous: true,
  body: [h("p", {}, "Programs that send it are refused from now on, and browsers that signed in with it are signed out. This cannot be undone.")],
  run: () => remove(`/v1/keys/${key.id}`),
});

function openNew(shown) {
  const name = h("input", { required: true, maxlength: "64", autocomplete: "off" });
  const boxes = Object.keys(SCOPES).map((scope) => h("input", { type: "checkbox", value: scope, checked: scope === "read" }));
  const scopes = h("fieldset", {}, h("legend", {}, "Scopes: none includes another"), boxes.map((box) => h("label.choice.wide", {}, box, h("span", {}, h("b", {}, box.value), ` ${SCOPES[box.value]}`))));
  const lifetime = select([{ value: "", text: "never" }, { value: 86400, text: "in a day" }, { value: 30 * 86400, text: "in 30 days" }, { value: 365 * 86400, text: "in a year" }], "");
  const done = (key) => {
    shown.replaceChildren(card("new-key", `The key ${key.name}`, null, h("p", {}, "Copy it now: nobody can read it again."), h("pre", { tabindex: "0" }, key.key ?? "It was shown in the first answer.")));
    refreshNow();
  };
  openDialog({
    title: "Create an API key", action: "Create", done,
    body: [field("Name", name, "What it is for."), scopes, field("Expires", lifetime)],
    run: (key) => post("/v1/keys", { name: name.value.trim(), scopes: boxes.filter((box) => box.checked).map((box) => box.value), ...(lifetime.value ? { expires_in: Number(lifetime.value) } : {}) }, key),
  });
}
