// Before and after: two pictures of the same seeds on top of each other, with a handle between them.

import { h } from "./elements.js";

/** before, after: {src, caption}. name: of what they show. */
export function beforeAfter({ before, after, name, width = 448, height = 224 }) {
  const size = { width, height };
  const top = h("img.before", { src: before.src, alt: `${name}: ${before.caption}`, ...size });
  const divider = h("span.divider", { "aria-hidden": "true" });
  const range = h("input", { type: "range", min: "0", max: "100", value: "50", "aria-label": `${name}: how much of the picture before is shown` });
  const move = () => {
    top.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    divider.style.insetInlineStart = `${range.value}%`;
    range.setAttribute("aria-valuetext", `${range.value} % before, ${100 - range.value} % after`);
  };
  range.addEventListener("input", move);
  move();
  return h(
    "figure.slider", {},
    h("div.stack", {}, h("div.layers", {}, h("img.after", { src: after.src, alt: `${name}: ${after.caption}`, ...size }), top), divider, range),
    h("figcaption", {}, h("span", {}, `◂ ${before.caption}`), h("span", {}, `${after.caption} ▸`)),
  );
}
