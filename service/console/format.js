// Numbers, times and names as people read them.

export const percent = (share) => (share === null || share === undefined ? "—" : `${(share * 100).toFixed(1)} %`);

/** A count in three digits: 1.02 M, 870 k, 42. */
export const shortNumber = (count) =>
  count >= 1e6 ? `${(count / 1e6).toFixed(2)} M` : count >= 1e4 ? `${Math.round(count / 1e3)} k` : String(count);

/** A number of any size in three digits. */
export function number(value) {
  if (value === null || value === undefined) return "—";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

export const count = (amount, noun) => `${amount === 0 ? "no" : amount} ${noun}${amount === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 1) return "under 1 s";
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Where a strategy, a network or a dataset comes from, if it is not built in. */
export const origin = ({ package: brought }) => (brought ? `from the package ${brought.name} ${brought.version}` : "");

export const words = (name) => name.replaceAll("_", " ");

/** "1, 2 and 3"; the labels of digits need no quotes. */
export function list(items) {
  const texts = items.map(String);
  return texts.length < 2 ? texts.join("") : `${texts.slice(0, -1).join(", ")} and ${texts.at(-1)}`;
}

/** "version 2", "versions 1 to 3", "versions 1, 3 and 4". */
export function versions(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  if (sorted.length === 1) return `version ${sorted[0]}`;
  const isRange = sorted.length > 2 && sorted.at(-1) - sorted[0] === sorted.length - 1;
  return `versions ${isRange ? `${sorted[0]} to ${sorted.at(-1)}` : list(sorted)}`;
}

export const moment = (text) =>
  text === null ? "—" : new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const bytes = (size) => (size >= 1e6 ? `${(size / 1e6).toFixed(1)} MB` : size >= 1e3 ? `${Math.round(size / 1e3)} kB` : `${size} B`);
