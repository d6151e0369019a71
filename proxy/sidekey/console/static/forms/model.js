// A form is a view of a document: fields read values from it and write them back. Keys without a field do not change.
import { isNumber, isSame, isSection, isStored, leaves, pointer, valueAt, withValue } from "./document.js";

/**
 * @typedef {import("./document.js").Path} Path
 * @typedef {import("./document.js").Value} Value
 * @typedef {"text" | "choice" | "secret" | "pem" | "check" | "prefixes" | "domains" | "parameters" | "headers" | "test"} FieldType
 * @typedef {{ key: string, type: FieldType, path: Path, label: string, required?: boolean, help?: string,
 *   example?: string, input?: "text" | "url" | "number", options?: [string, string][], suggestions?: string[],
 *   wrap?: "value" | "inline", byUrl?: boolean, start?: any, isOptional?: boolean, isReadable?: boolean,
 *   isUsed?: (values: Values) => boolean }} Field
 *   `start`: the value in a new document. `isOptional`: most people leave it out, so it is folded away. `wrap`: the key in which the document has a text in PEM. `byUrl`: Sidekey may
 *   fetch it. `isReadable`: a secret that can be read while it is typed. `isUsed`: whether the document may have it, by the other values.
 * @typedef {{ text: string, url: string, by: "text" | "url", stored: Value, replacing: boolean }} SecretValue
 *   `stored`: the secret that the store has. It is sent back unless it is being replaced.
 * @typedef {{ name: string, place: string, isSecret: boolean, prefix: string, text: string, secret: SecretValue, raw: Value }} RowValue
 *   `raw`: the public value as the document has it, such as a number.
 * @typedef {Record<string, any>} Values By key of a field.
 */

/** @type {SecretValue} */
const NO_SECRET = { text: "", url: "", by: "text", stored: null, replacing: true };
/** @type {RowValue} */
export const EMPTY_ROW = { name: "", place: "body", isSecret: false, prefix: "", text: "", secret: NO_SECRET, raw: undefined };
/** @type {RowValue} */
export const EMPTY_HEADER = { ...EMPTY_ROW, place: "headers", isSecret: true };

/**
 * @typedef {{ load: (raw: Value, field: Field) => any, save: (value: any, field: Field, raw: Value) => Value,
 *   path?: Path, paths?: (field: Field) => Path[] }} Type How a field reads what is at its path in the document, and writes it.
 *   `path`: in place of that of the field. `paths`: the places that the field shows, if it does not show all of it.
 */

/** @type {Type} */
const SECRET = { load: loadSecret, save: (secret, { wrap = "value" }) => saveSecret(secret, wrap) };

/** @type {Record<FieldType, Type>} */
const TYPES = {
  text: {
    load: textOf,
    save: (text, { input }) => (text === "" ? undefined : input === "number" && /^\d{1,15}$/.test(text) ? Number(text) : text),
  },
  choice: {
    // A missing key means the first option, unless the key is required.
    load: (raw, { required, options = [] }) => raw ?? (required ? "" : options[0][0]),
    save: (value) => value,
  },
  secret: SECRET,
  pem: SECRET,
  check: { load: (raw) => raw === true, save: (isOn) => isOn || undefined },
  prefixes: {
    load: (raw = "") => (Array.isArray(raw) && raw.length > 0 ? raw.map(textOf) : [textOf(raw)]),
    save: (items) => {
      const filled = filledIn(items);
      return filled.length > 1 ? filled : filled[0];
    },
  },
  domains: {
    path: [],
    paths: () => [["allow_other_domains"], ["allowed_domains"]],
    load: ({ allow_other_domains: isOn, allowed_domains: items = [] }) => ({ isOn: isOn === true, items: items.length > 0 ? items.map(textOf) : [""] }),
    save: ({ isOn, items }, _, document) => {
      const filled = filledIn(items);
      const allowed = withValue(document, ["allow_other_domains"], isOn ? true : undefined);
      return withValue(allowed, ["allowed_domains"], isOn && filled.length > 0 ? filled : undefined);
    },
  },
  parameters: {
    paths: ({ path }) => PLACES.map((place) => [...path, place]),
    load: (raw) => PLACES.flatMap((place) => loadRows(valueAt(raw, [place]), place)),
    save: (rows, _, raw) => {
      const section = PLACES.reduce((saved, place) => withValue(saved, [place], saveRows(rows, place)), raw);
      return Object.keys(section).length > 0 ? section : undefined;
    },
  },
  headers: { load: (raw) => loadRows(raw, "headers"), save: (rows) => saveRows(rows, "headers") },
  test: {
    load: (raw) => ({ method: raw?.method ?? "GET", path: textOf(raw?.path) }),
    save: ({ method, path }, _, raw) => {
      const isDefault = method === "GET" && raw?.method === undefined;
      return path === "" ? undefined : { ...raw, ...(!isDefault && { method }), path };
    },
  },
};

const PLACES = ["body", "query"];

/** @param {Field} field */
const pathOf = ({ type, path }) => TYPES[type].path ?? path;

/** @param {Field} field @returns {Path[]} The places that a field shows. */
const shownPathsOf = (field) => TYPES[field.type].paths?.(field) ?? [field.path];

/** @param {Field[]} fields @param {Value} document @returns {Values} */
export function loadValues(fields, document) {
  return Object.fromEntries(fields.map((field) => [field.key, TYPES[field.type].load(valueAt(document, pathOf(field)), field)]));
}

/** @param {Field[]} fields @param {Value} document @param {Values} values @returns {Value} Write the values that were changed. */
export function saveValues(fields, document, values) {
  const before = loadValues(fields, document);
  const changed = fields.filter(({ key, isUsed }) => !isSame(before[key], values[key]) || isUsed?.(values) === false);
  return changed.reduce((saved, field) => {
    const place = pathOf(field);
    if (field.isUsed?.(values) === false) return withValue(saved, place, undefined);
    return withValue(saved, place, TYPES[field.type].save(values[field.key], field, valueAt(saved, place)));
  }, document);
}

/** @param {Field} field @returns {string[]} The JSON pointers of the places that a field shows. */
export const pointersOf = (field) => shownPathsOf(field).map(pointer);

/**
 * Return False if the document has a value that the field cannot show, such as a mapping in place of a text.
 * @param {Field} field @param {Value} document
 */
export function canShow({ type, path, options = [] }, document) {
  const value = valueAt(document, path);
  if (value === undefined) return true;
  if (type === "text") return typeof value !== "object" || isNumber(value);
  if (type === "choice") return options.some(([key]) => key === value);
  return type !== "secret" || (!isSection(value) && !Array.isArray(value));
}

const NOT_SETTINGS = ['["id"]', '["auth","type"]', '["auth","provider"]'];

/** @param {Field[]} fields @param {Value} document @returns {Path[]} The places of a document that no field shows. */
export function unshownPaths(fields, document) {
  const shown = fields.flatMap(shownPathsOf);
  return leaves(document)
    .filter(([, value]) => value !== "" && !(typeof value === "object" && value !== null && Object.keys(value).length === 0))
    .map(([path]) => path)
    .filter((path) => !NOT_SETTINGS.includes(JSON.stringify(path)))
    .filter((path) => !shown.some((place) => place.every((key, index) => path[index] === key)));
}

/** @param {RowValue} row @param {Field} field @returns {string} */
export function pointerOfRow(row, field) {
  return pointer(field.type === "headers" ? [...field.path, row.name] : [...field.path, row.place, row.name]);
}

/** @param {RowValue[]} rows @returns {string[]} For each row, what is wrong with its name; a document cannot have such rows. */
export function rowErrors(rows) {
  return rows.map(({ name, place }, index) => {
    if (name === "") return isEmptyRow(rows[index]) ? "" : "Enter a name.";
    const first = rows.findIndex((row) => row.name === name && row.place === place);
    return first === index ? "" : `Row ${first + 1} is called ${name}, too. Rename one.`;
  });
}

/** @param {RowValue} row @returns {string} What is wrong with a public value. Values that a document leaves empty may stay so. */
export function valueError({ name, isSecret, text, secret, raw }) {
  if (isSecret || name === "" || text !== "" || (raw !== undefined && textOf(raw) === "")) return "";
  if (secret.stored === null) return "Enter a value.";
  return "The stored secret does not become public. Enter a public value, or check Secret again.";
}

/** @param {Value} raw @returns {SecretValue} */
function loadSecret(raw) {
  if (isStored(raw)) return { ...NO_SECRET, stored: raw, replacing: false };
  if (typeof raw === "string") return { ...NO_SECRET, text: raw };
  if (raw?.url !== undefined) return { ...NO_SECRET, url: raw.url, by: "url" };
  return { ...NO_SECRET, text: raw?.value ?? raw?.inline ?? "" };
}

/** @param {SecretValue} secret @param {string} wrap @returns {Value} */
function saveSecret({ stored, replacing, by, ...entered }, wrap) {
  if (stored !== null && !replacing) return stored;
  if (entered[by] === "" && stored === null) return undefined;
  return { [by === "url" ? by : wrap]: entered[by] };
}

/** @param {Value} section @param {string} place @returns {RowValue[]} */
function loadRows(section, place) {
  return Object.entries(section ?? {}).map(([name, raw]) => {
    const row = { ...EMPTY_ROW, name, place };
    const secret = place === "headers" ? raw?.secret : raw;
    if (typeof secret === "object" && secret !== null && !isNumber(secret)) {
      return { ...row, isSecret: true, prefix: textOf(raw.prefix), secret: loadSecret(secret) };
    }
    return { ...row, text: textOf(raw), raw };
  });
}

/** @param {RowValue[]} rows @param {string} place @returns {Value} */
function saveRows(rows, place) {
  const placed = rows.filter((row) => row.place === place && row.name !== "");
  return placed.length === 0 ? undefined : Object.fromEntries(placed.map((row) => [row.name, saveRow(row)]));
}

/** @param {RowValue} row @returns {Value} */
function saveRow({ place, isSecret, prefix, secret, text, raw }) {
  if (!isSecret) return raw !== undefined && text === textOf(raw) ? raw : text;
  const value = saveSecret(secret, "value") ?? { value: "" };
  if (place !== "headers") return value;
  return prefix === "" ? { secret: value } : { prefix, secret: value };
}

/** @param {RowValue} row */
function isEmptyRow({ prefix, text, secret }) {
  return prefix === "" && text === "" && secret.text === "" && secret.stored === null;
}

/** @param {Value} raw @returns {string} */
function textOf(raw) {
  if (typeof raw === "string") return raw;
  return raw === undefined || raw === null || (typeof raw === "object" && !isNumber(raw)) ? "" : JSON.stringify(raw);
}

/** @param {string[]} items */
const filledIn = (items) => items.map((text) => text.trim()).filter((text) => text !== "");
