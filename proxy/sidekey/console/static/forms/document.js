// Documents of integrations as plain values. Nothing is changed in place.

/** @typedef {any} Value A value as JSON has it. A number that JavaScript would change is a `JSON.rawJSON` object. */
/** @typedef {string[]} Path The keys that lead to a value. */

/** The members of an integration in a response that its document does not have. */
export const READ_ONLY = [
  "base",
  "created_at",
  "expires_at",
  "failing_since",
  "hosts",
  "kind",
  "problem",
  "source",
  "status",
  "updated_at",
  "updated_by",
  "version",
  "warnings",
];

/** @param {Value} integration @returns {Value} The document of an integration that was read, with its ID first. */
export function documentOf(integration) {
  const { id, ...members } = integration;
  return { id, ...Object.fromEntries(Object.entries(members).filter(([key]) => !READ_ONLY.includes(key))) };
}

/** @param {Value} document @returns {Value} A document with its top-level keys in the order in which people read them. */
export function inOrder({ id, title, description, tags, auth, test, ...rest }) {
  const members = Object.entries({ id, title, description, tags, ...rest, auth, test });
  return Object.fromEntries(members.filter(([, value]) => value !== undefined));
}

/** @param {Value} value @returns {boolean} True for a number with its spelling. */
export function isNumber(value) {
  return typeof value === "number" || /** @type {any} */ (JSON).isRawJSON?.(value) === true;
}

/** @param {Value} value @returns {boolean} True for a secret that the store keeps. */
export function isStored(value) {
  return value?.set === true;
}

/** @param {Value} value @returns {boolean} True for an object that is a value by itself, such as a secret. */
function isWhole(value) {
  const keys = Object.keys(value);
  return isStored(value) || (keys.length === 1 && ["value", "inline", "url"].includes(keys[0]) && typeof value[keys[0]] === "string");
}

/** @param {Value} value @returns {boolean} True for a mapping of keys to values. */
export function isSection(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isNumber(value) && !isWhole(value);
}

/** @param {Value} value @returns {Value} A document without the secrets that the store keeps: nobody can copy them. */
export function withoutSecrets(value) {
  if (Array.isArray(value)) return value.filter((item) => !isStored(item)).map(withoutSecrets);
  if (!isSection(value)) return value;
  const entries = Object.entries(value).filter(([, member]) => !isStored(member));
  return Object.fromEntries(entries.map(([key, member]) => [key, withoutSecrets(member)]));
}

/** @param {Value} one @param {Value} other @returns {boolean} True if both are the same, in any order of keys. */
export function isSame(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (isNumber(one) || isNumber(other)) return isNumber(one) && isNumber(other) && JSON.stringify(one) === JSON.stringify(other);
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => Object.hasOwn(other, key) && isSame(one[key], other[key]));
}

/** @param {Value} document @param {Path} path @returns {Value} Undefined: there is none. */
export function valueAt(document, path) {
  let value = document;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/**
 * Return a document with another value at a place. Undefined removes it, with the sections that are empty then.
 * @param {Value} document @param {Path} path @param {Value} value @returns {Value}
 */
export function withValue(document, [key, ...rest], value) {
  if (key === undefined) return value;
  const section = typeof document === "object" && document !== null ? document : {};
  let below = value;
  if (rest.length > 0) {
    below = withValue(Object.hasOwn(section, key) ? section[key] : {}, rest, value);
    if (value === undefined && isSection(below) && Object.keys(below).length === 0) below = undefined;
  }
  if (below !== undefined) return { ...section, [key]: below };
  return Object.fromEntries(Object.entries(section).filter(([name]) => name !== key));
}

/** @param {Path} path @returns {string} The JSON pointer of a place (RFC 6901). */
export function pointer(path) {
  return path.map((key) => `/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/** @param {Value} value @param {Path} [path] @returns {[Path, Value][]} Each value that is not a section, with its place. */
export function leaves(value, path = []) {
  if (!isSection(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, member]) => leaves(member, [...path, key]));
}

/**
 * Apply the changes from `base` to `mine` to `theirs`, which somebody else has made of `base`.
 * @param {Value} base @param {Value} mine @param {Value} theirs @returns {Value}
 */
export function merge(base, mine, theirs) {
  if (isSame(base, mine)) return theirs;
  if (![base, mine, theirs].every(isSection)) return mine;
  const keys = [...new Set([...Object.keys(theirs), ...Object.keys(mine)])];
  /** @param {Value} section @param {string} key */
  const valueOf = (section, key) => (Object.hasOwn(section, key) ? section[key] : undefined);
  const merged = keys.map((key) => [key, merge(valueOf(base, key), valueOf(mine, key), valueOf(theirs, key))]);
  return Object.fromEntries(merged.filter(([, value]) => value !== undefined));
}
