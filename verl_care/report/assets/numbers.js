// Numbers as people read them.

const NONE = "–";

/** A probability or rate: 0.62; with more digits where two would hide that it is not 0 or 1. */
export function rate(value, digits = 2) {
  if (value == null) return NONE;
  const near = Math.min(Math.abs(value), Math.abs(1 - value));
  return value.toFixed(near > 0 && near < 0.5 * 10 ** -digits ? digits + 2 : digits);
}

/** Three significant digits at any size. */
export function short(value) {
  if (value == null) return NONE;
  const size = Math.abs(value);
  if (size < 1e-12) return "0"; // what smoothing leaves of a number that was not 0 long ago
  if (size < 1e-3 || size >= 1e6) return value.toExponential(1).replace("e-", "e−").replace("e+", "e");
  if (size >= 1000) return count(Math.round(value));
  return (Number.isInteger(value) ? String(value) : value.toPrecision(3)).replace("-", "−");
}

/** With its sign, in two digits. */
export function signed(value) {
  if (value == null) return NONE;
  const text = Math.abs(value).toFixed(2);
  return Number(text) === 0 ? "0.00" : (value > 0 ? "+" : "−") + text;
}

export function fixed(value, digits = 2) {
  return value == null ? NONE : value.toFixed(digits).replace("-", "−");
}

export function count(value) {
  return value == null ? NONE : value.toLocaleString("en-US");
}

/** "1 response", "8 responses". */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Round values that divide [low, high] into about `wanted` parts. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

/** A tick's text, with as many digits as its distance from the next one asks for. */
export function tickText(value, step) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 10000 || Math.abs(step) < 1e-4) return short(value);
  return value.toFixed(Math.max(0, -Math.floor(Math.log10(Math.abs(step) * 1.0001))));
}

/** Running mean with exponentially falling weights, corrected for its start; nulls stay nulls. */
export function smooth(values, weight) {
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

export function mean(values) {
  const known = values.filter((value) => value != null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
