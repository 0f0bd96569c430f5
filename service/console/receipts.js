// Receipts of a forget: read, verified in this browser, and shown.
//
// A receipt is an in-toto statement in a DSSE envelope, signed with Ed25519. What is signed is
// "DSSEv1 LENGTH TYPE LENGTH PAYLOAD". Whoever does not trust this page verifies with `palimpsest verify`.

import { getAll, getAnswer } from "./api.js";
import { card, h } from "./elements.js";
import { bytes as size, list, moment, number, percent } from "./format.js";

const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** Fetch the receipt at `path` and verify it: {bytes, statement, verdict: {state, text}}. */
export async function readReceipt(path) {
  const bytes = new Uint8Array(await (await getAnswer(path)).arrayBuffer());
  const envelope = JSON.parse(new TextDecoder().decode(bytes));
  const statement = JSON.parse(new TextDecoder().decode(decode(envelope.payload)));
  return { bytes, statement, verdict: await verify(envelope) };
}

async function verify(envelope) {
  const [signature] = envelope.signatures;
  const keys = await getAll("/v1/signing-keys");
  const key = keys.find((one) => one.keyid === signature.keyid);
  if (!key) return { state: "missed", text: `Not genuine: it is signed by ${signature.keyid.slice(0, 16)}, which is no key of this service.` };
  const who = `the service's key ${key.keyid.slice(0, 16)}${key.retired_at ? ", which has retired since" : ""}`;
  try {
    const spki = decode(key.public_key.replaceAll(/-----[^-]+-----|\s/g, ""));
    const imported = await crypto.subtle.importKey("spki", spki, "Ed25519", false, ["verify"]);
    const payload = decode(envelope.payload);
    const head = new TextEncoder().encode(`DSSEv1 ${envelope.payloadType.length} ${envelope.payloadType} ${payload.length} `);
    const signed = new Uint8Array([...head, ...payload]);
    const genuine = await crypto.subtle.verify("Ed25519", imported, decode(signature.sig), signed);
    return genuine
      ? { state: "met", text: `Genuine: this browser has checked the signature by ${who}. Not a letter of it has changed since it was signed.` }
      : { state: "missed", text: `Not genuine: the signature by ${who} does not match. The receipt was altered.` };
  } catch {
    return { state: "none", text: `This browser cannot check signatures here (it takes Ed25519, and HTTPS or this machine's own address). Download the receipt and run palimpsest verify.` };
  }
}

/** The receipt as a card. `fileName`: for the download. */
export function receiptCard({ statement, verdict }, path, fileName) {
  const { predicate } = statement;
  const asked = predicate.asked;
  const { forgotten, retained, criteria } = predicate.figures;
  const figures = Object.entries(forgotten.labels).filter(([name]) => asked.labels.includes(name));
  const measured = (figure, text) => (figure.value === null ? figure.reason ?? "not measured" : figure.reason ? `${text}; no verdict: ${figure.reason}` : text);
  const facts = [
    ["Forgotten", `${list(asked.labels)} of model ${predicate.model.name}, in version ${predicate.version}`],
    ["Guarantee", predicate.guarantee === "exact" ? "exact: no weight has seen the labels" : "approximate: the weights were changed so that they do not draw the labels; whoever has the files may still find a trace in them"],
    ["What it still draws", figures.map(([name, figure]) => `${name}: ${measured(figure, `${percent(figure.value)} of ${number(figure.n)} images are recognised as it`)}`).join("; ") || "not measured"],
    ["Kept labels", measured(retained, `${percent(retained.value)} recognised`)],
    criteria.length > 0 && ["Acceptance criteria", [`${criteria.filter((one) => one.verdict === "met").length} of ${criteria.length} met`, ...new Set(criteria.map((one) => one.reason).filter(Boolean))].join("; ")],
    asked.reference && ["Your reference", asked.reference],
    ["Accepted", moment(predicate.accepted_at)],
    ["Published", moment(predicate.published_at)],
    predicate.purge && ["Purged", `${predicate.purge.keys_gone.length} files deleted (${size(predicate.purge.keys_gone.reduce((sum, file) => sum + file.bytes, 0))}), ${predicate.purge.keys_kept.length} kept because another version needs them`],
  ].filter(Boolean);
  return card(
    "receipt", "Receipt", h("a", { href: path, download: fileName }, "download it"),
    h(`p.verdict.block.${verdict.state}`, { role: "status" }, verdict.text),
    h("dl.facts", {}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("h3", {}, "Store by store"),
    h("ul.stores", {}, predicate.stores.map((entry) => h("li", {}, h("details", {}, h("summary", {}, h("span.store", {}, entry.store), " ", h("span.tag", {}, entry.state)), h("p", {}, entry.detail))))),
    h("p.note", {}, predicate.says),
    h("p.note", {}, "Verify it anywhere, without this service: ", h("code", {}, `palimpsest verify ${fileName}`)),
  );
}
