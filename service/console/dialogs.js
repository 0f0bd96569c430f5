// Dialogs with a form: the browser's own <dialog> keeps the focus in it and closes it on Escape.

import { Refused, ServiceUnavailable, SignInNeeded, idempotencyKey } from "./api.js";
import { h, renderOnce } from "./elements.js";
import { refreshNow } from "./refreshing.js";

/** Open a dialog. Its form is sent by `run(idempotencyKey)`; what the service refuses is said in it. Without an
 * action it only shows something.
 *
 * update: called when something in the form changes, and at first. dangerous: whether the button is red.
 */
export function openDialog({ title, body, action = null, run = () => null, update = () => {}, dangerous = false, done = refreshNow }) {
  const errors = h("div.error", { role: "alert" });
  const button = h(`button${dangerous ? ".danger" : ""}`, { type: "submit" }, action);
  const close = () => dialog.close();
  const key = idempotencyKey(); // of this dialog: sent again after a lost answer, the request is the same
  let sent = 0;
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    errors.replaceChildren();
    try {
      const result = await run(`${key}${sent}`);
      dialog.close();
      done(result);
    } catch (error) {
      if (error instanceof SignInNeeded) dialog.close();
      else errors.replaceChildren(...explain(error));
      if (error instanceof Refused) sent += 1; // a corrected form is another request
    } finally {
      button.disabled = false;
    }
  };
  const form = h("form", { submit, input: update, change: update }, h("h2", { id: "dialog-title" }, title), ...[body].flat(), errors,
    h("div.buttons", {}, h("button.plain", { type: "button", click: close }, "Close"), action && button));
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", close: () => dialog.remove() }, form);
  document.body.append(dialog);
  update();
  dialog.showModal();
  return dialog;
}

/** Paragraphs that say why a request failed. */
export function explain(error) {
  if (error instanceof Refused) return error.lines.map((line) => h("p", {}, line));
  if (error instanceof ServiceUnavailable) return [h("p", {}, "The service does not answer. Try again; what you entered is kept.")];
  throw error;
}

/** A field with its label, and a hint below it. */
export function field(text, control, hint = null) {
  control.id ||= `field-${text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  const hintId = `${control.id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h("div.field", {}, h("label", { for: control.id }, text), control, hint && h("p.note", { id: hintId }, hint));
}

export const select = (options, chosen = null) =>
  h("select", {}, options.map(({ value, text, disabled }) => h("option", { value, selected: value === chosen, disabled }, text)));

/** Check boxes for labels. `chosen()` of the result lists the chosen ones. */
export function labelChoice(legend, labels, chosen = [], note = () => null) {
  const boxes = labels.map((label) => h("input", { type: "checkbox", value: label.name, checked: chosen.includes(label.name) }));
  const items = labels.map((label, index) => h("label.choice", {}, boxes[index], h("span", {}, label.name), note(label) && h("small", {}, note(label))));
  const node = h("fieldset", {}, h("legend", {}, legend), labels.length ? h("div.choices", {}, items) : h("p.note", {}, "There is none."));
  return { node, chosen: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}

/** The section that says what will happen, and the function that brings it up to date. */
export function consequences(describe) {
  const items = h("ul.consequences", { "aria-live": "polite" });
  const node = h("div.what-happens", {}, h("h3", {}, "What will happen"), items);
  const update = () => {
    const lines = describe().filter(Boolean);
    renderOnce(items, lines, () => lines.map((line) => h("li", {}, line)));
  };
  return { node, update };
}
