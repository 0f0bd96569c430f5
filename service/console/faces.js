// The face of a label: an image that a version draws of it, or a tile that says why there is none.

import { modelApi } from "./api.js";
import { h } from "./elements.js";

export const isHeld = (label) => label.status === "permanent" || label.status === "temporary";

/** The address of images of a label. grid: "4x8". */
export const imagesAddress = (model, version, label, seed = 0, scale = 4, grid = "1x1") =>
  `${modelApi(model)}/versions/${version}/images/${encodeURIComponent(label)}/${seed}.png?scale=${scale}${grid === "1x1" ? "" : `&grid=${grid}`}`;

export const fileAddress = (model, version, file) => `${modelApi(model)}/versions/${version}/files/${encodeURIComponent(file)}`;

/** What a label looks like in one version: [a key for its state, how to make its element]. */
export function face(model, label, { seed = 0, onNext = null, onError = null } = {}) {
  if (!isHeld(label)) {
    const reason = label.status === "forgotten" ? `forgotten in version ${label.forgotten_version}` : "not learned";
    const text = `${label.name}, ${reason}`;
    return [`${label.status} ${label.forgotten_version}`, () => h("div.face", { role: "img", "aria-label": text, title: text })];
  }
  const make = () => {
    const image = h("img", {
      src: imagesAddress(model.name, model.head, label.name, seed), alt: `${label.name} as version ${model.head} draws it`,
      width: "112", height: "112", loading: "lazy", error: onError,
    });
    if (!onNext) return h("div.face", {}, image);
    return h("button.face", { type: "button", title: "Draw another image", click: onNext }, image);
  };
  return [`${label.status} ${model.head} ${seed}`, make];
}

/** Put the face into `place`, unless it is there. */
export function showFace(place, model, label, options) {
  const [key, make] = face(model, label, options);
  if (place.dataset.face === key) return;
  const hadFocus = place.contains(document.activeElement);
  place.dataset.face = key;
  place.replaceChildren(make());
  if (hadFocus) place.firstElementChild.focus();
}
