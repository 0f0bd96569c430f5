// Plots as SVG, drawn at the width that they have on the screen, so that their text keeps its size.

import { h, svg } from "./elements.js";

const MARGIN = { left: 46, right: 14, top: 12, bottom: 26 };

/** A line plot that fills its width.
 *
 * series: [{name, className, points: [{x, y, low, high, text, missed}]}]. format: of the y axis.
 * ticks: [{x, text}] of the x axis. limit: {y, text} or null. label: what a screen reader says.
 */
export function linePlot({ series, format, ticks, label, limit = null, height = 190, top = null, bottom = 0 }) {
  const place = h("div.plot", { role: "img", "aria-label": label });
  const draw = (width) => place.replaceChildren(plotOf(width, { series, format, ticks, limit, height, top, bottom }));
  new ResizeObserver(([entry]) => draw(Math.max(Math.floor(entry.contentRect.width), 180))).observe(place);
  const named = series.filter((one) => one.name);
  if (named.length === 0) return place;
  const legend = h("ul.legend", {}, named.map((one) => h("li", {}, svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, svg(`path.line.${one.className}`, { d: "M1 4H23" })), ` ${one.name}`)));
  return h("div", {}, place, legend);
}

function plotOf(width, { series, format, ticks, limit, height, top, bottom }) {
  const points = series.flatMap((one) => one.points);
  const highest = top ?? niceTop(Math.max(...points.map((point) => point.high ?? point.y), limit ? limit.y * 1.3 : 0, bottom + 1e-9), bottom);
  const xs = points.map((point) => point.x);
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const [left, right, up, down] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  const x = (value) => (last === first ? (left + right) / 2 : left + 10 + ((value - first) / (last - first)) * (right - left - 20));
  const y = (value) => down - ((Math.min(value, highest) - bottom) / (highest - bottom)) * (down - up);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  for (const share of [0, 0.5, 1]) {
    const value = bottom + share * (highest - bottom);
    drawing.append(svg("path.grid", { d: `M${left} ${y(value)}H${right}` }), svg("text.end", { x: left - 7, y: y(value) + 4 }, format(value)));
  }
  let nextFree = -Infinity;
  for (const tick of ticks) {
    const half = tick.text.length * 3.8;
    if (x(tick.x) - half < nextFree) continue;
    nextFree = x(tick.x) + half + 8;
    drawing.append(svg("text.middle", { x: x(tick.x), y: height - 8 }, tick.text));
  }
  if (limit) drawing.append(svg("path.limit", { d: `M${left} ${y(limit.y)}H${right}` }), svg("text.end.limit-text", { x: right, y: y(limit.y) - 5 }, limit.text));
  for (const { className, points: own } of series) {
    if (own.length > 1) drawing.append(svg(`path.line.${className}`, { d: `M${own.map((point) => `${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join("L")}` }));
    if (own.length > 60) continue;
    for (const point of own) {
      if (point.high !== undefined && point.high !== null) drawing.append(svg("path.whisker", { d: `M${x(point.x)} ${y(point.low)}V${y(point.high)}` }));
      drawing.append(svg(`circle.dot.${className}${point.missed ? ".missed" : ""}`, { cx: x(point.x), cy: y(point.y), r: 4 }, svg("title", {}, point.text ?? "")));
    }
  }
  return drawing;
}

function niceTop(value, bottom) {
  const span = value - bottom;
  const unit = 10 ** Math.floor(Math.log10(span));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((one) => one * unit >= span * 0.999);
  return bottom + step * unit;
}
