// Write documents as YAML. Only the server parses YAML, and reads the same values.
import { isNumber } from "./forms/document.js";

/** @param {any} document Return an object as YAML, in the order of its keys. */
export function toYaml(document) {
  return `${lines(document, "").join("\n")}\n`;
}

/** @param {Record<string, any>} section @param {string} indent @returns {string[]} */
function lines(section, indent) {
  return Object.entries(section).flatMap(([name, value]) => {
    const key = text(name, PLAIN_KEY);
    // YAML limits the text before a colon to 1,024 characters.
    const start = key.length > 1000 ? [`${indent}? ${key}`, `${indent}:`] : [`${indent}${key}:`];
    return [...start.slice(0, -1), ...item(start[start.length - 1], value, indent)];
  });
}

/** @param {string} start The begin of its first line. @param {any} value @param {string} indent @returns {string[]} */
function item(start, value, indent) {
  if (typeof value === "string" && isBlock(value)) {
    const end = value.endsWith("\n") ? "" : "-";
    const block = value.replace(/\n$/, "").split("\n");
    return [`${start} |${end}`, ...block.map((line) => (line === "" ? "" : `${indent}  ${line}`))];
  }
  if (typeof value !== "object" || value === null || isNumber(value)) return [`${start} ${scalar(value)}`];
  if (Object.keys(value).length === 0) return [`${start} ${Array.isArray(value) ? "[]" : "{}"}`];
  const below = `${indent}  `;
  if (!Array.isArray(value)) return [start, ...lines(value, below)];
  return [start, ...value.flatMap((member) => item(`${below}-`, member, below))];
}

/** @param {any} value A value without parts. */
function scalar(value) {
  if (isNumber(value)) return decimal(JSON.stringify(value));
  return typeof value === "string" ? text(value, PLAIN) : String(value);
}

/** @param {string} number The server reads no exponent. A number that had one is a float, and stays one. */
function decimal(number) {
  const parts = /^(-?)(\d+)(?:\.(\d+))?[eE]([+-]?\d+)$/.exec(number);
  if (parts === null) return number;
  const [, sign, integer, fraction = "", exponent] = parts;
  const at = integer.length + Number(exponent);
  const digits = `${"0".repeat(Math.max(0, 1 - at))}${integer}${fraction}`;
  const point = Math.max(1, at);
  const before = digits.slice(0, point).padEnd(point, "0").replace(/^0+(?=\d)/, "");
  return `${sign}${before}.${digits.slice(point) || "0"}`;
}

const PLAIN_KEY = /^[A-Za-z_][\w-]*$/;
const PLAIN = /^(?:[A-Za-z][\w+./@-]*(?:(?: |:\/\/|:)[\w+./@-]+)*|\/[\w+./@-]*)$/;
/** Texts that some YAML parsers read as true, false or null. */
const WORDS = /^(?:true|false|null|yes|no|on|off|y|n)$/i;

/** @param {string} value @param {RegExp} plain Texts that need no quotes. */
function text(value, plain) {
  return plain.test(value) && !WORDS.test(value) ? value : quoted(value);
}

/** @param {string} value */
function quoted(value) {
  // JSON escapes control characters and lone surrogates. YAML has further line breaks and characters that it refuses.
  return JSON.stringify(value).replace(/[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g, (character) =>
    `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** @param {string} value Return True if people read the text as lines, such as PEM. */
function isBlock(value) {
  return /^[!-~][ -~]*(?:\n(?:[!-~][ -~]*)?)*\n?$/.test(value) && value.includes("\n") && !/\n\n$|[ ](?:\n|$)/.test(value);
}
