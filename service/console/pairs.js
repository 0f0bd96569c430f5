// The two pictures of a label that may be shown of two versions: drawn now, or saved with a forget.

import { fileAddress, imagesAddress } from "./faces.js";
import { isDrawable } from "./history.js";

/** [before, after] of a label: {src, caption, rows}, or null where no picture may be shown. */
export function findPair(name, label, from, to) {
  const draw = (version, rows) => ({ rows, caption: `version ${version.number}`, src: imagesAddress(name, version.number, label, 0, 2, `${rows}x8`) });
  const file = (version, fileName, rows, caption) => ({ rows, caption, src: fileAddress(name, version.number, fileName) });
  const [saved, gone] = [`before-${label}.png`, `forgotten-${label}.png`];
  const held = (version) => isDrawable(version) && version.labels.includes(label);
  if (gone in to.files && !to.purged_by) {
    const after = file(to, gone, 2, `version ${to.number}, forgotten`);
    if (held(from)) return [draw(from, 2), after];
    if (gone in from.files && !from.purged_by) return [file(from, gone, 2, `version ${from.number}, forgotten`), after];
    return [to.parent === from.number && saved in to.files && isDrawable(to) ? file(to, saved, 2, `version ${from.number}, kept as evidence`) : null, after];
  }
  if (held(from) && held(to)) return [draw(from, 2), draw(to, 2)];
  if (held(to) && to.parent === from.number && saved in to.files) return [file(to, saved, 1, `version ${from.number}, saved before`), draw(to, 1)];
  return [held(from) ? draw(from, 2) : null, held(to) ? draw(to, 2) : null];
}
