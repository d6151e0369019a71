// JSON whose numbers keep their digits: a document that is read and saved again must not change.

/** JSON as it is written, such as a number of 18 digits. */
export class Exact {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

/** @param {string} text @returns {Exact | string} Return the typed number, or the text if it is no number. */
export function numberOf(text) {
  return NUMBER.test(text.trim()) ? new Exact(text.trim()) : text;
}

/** @param {any} value @returns {string | null} The text of an `Exact`, or of a number as `exact` of api.js reads it. */
export function exactText(value) {
  if (value instanceof Exact) return value.text;
  return /** @type {any} */ (JSON).isRawJSON?.(value) ? value.rawJSON : null;
}

/**
 * Write JSON. Undefined members are left out.
 * @param {any} value @param {string} [indent] Spaces of one level. Empty: all in one line.
 * @returns {string}
 */
export function writeExact(value, indent = "") {
  return write(value, indent, indent === "" ? "" : "\n");
}

/** @param {any} value @param {string} indent @param {string} line @returns {string} */
function write(value, indent, line) {
  const text = exactText(value);
  if (text !== null) return text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = line + indent;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => write(item, indent, inner))
    : Object.entries(value)
        .filter(([, item]) => item !== undefined)
        .map(([key, item]) => `${JSON.stringify(key)}:${indent && " "}${write(item, indent, inner)}`);
  return items.length === 0 ? open + close : `${open}${inner}${items.join(`,${inner}`)}${line}${close}`;
}
