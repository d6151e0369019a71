// Convert the document of a preset to the values of its form, and back.
import { Exact, exactText, numberOf, writeExact } from "./exact.js";

/**
 * @typedef {{ name: string, type: "text" | "number" | "boolean", required: boolean, default: string, max_length: string, enum: string,
 *   title: string, help: string, example: string, format: string, order: string[] }} Parameter Values as texts, `enum` with one a line.
 * @typedef {{ name: string, value: string }} Pair
 * @typedef {{ id: string, title: string, help: string, description: string, tags: string, integration: string,
 *   method: string, url: string, headers: Pair[], parameters: Parameter[], takes: "json" | "form" | "text" | "payload",
 *   json: string, form: Pair[], text: string, content_type: string, rest: Record<string, any>, order: string[] }} Draft
 *   `order`: the keys as they were read, since another order would be a change.
 */

/** @type {Record<string, string>} */
export const TYPES = { text: "Text", number: "Number", boolean: "Yes or no" };

/** @type {Parameter} */
export const NEW_PARAMETER = {
  name: "", type: "text", required: true, default: "", max_length: "", enum: "", title: "", help: "", example: "", format: "", order: [],
};

/** @type {Draft} */
export const NEW_DRAFT = {
  id: "", title: "", help: "", description: "", tags: "", integration: "", method: "", url: "", headers: [],
  parameters: [], takes: "json", json: "{\n}", form: [], text: "", content_type: "", rest: {}, order: [],
};

/** Members of a response that are no part of the document. */
const READ_ONLY = ["source", "version", "status", "problem", "created_at", "updated_at", "updated_by"];

/** @param {any} preset A preset as the API responds with it, read with `exact`. @returns {Draft} */
export function draftOf(preset) {
  const { id = "", title = "", help = "", description = "", tags = [], integration = "", method = "", url = "", headers = {},
    parameters = {}, body, content_type, ...rest } = preset;
  for (const name of READ_ONLY) delete rest[name];
  const takes = !body ? "payload" : "form" in body ? "form" : "text" in body ? "text" : "json";
  return {
    ...NEW_DRAFT,
    id, title, help, description, integration, method, url, rest, takes,
    order: Object.keys(preset),
    tags: tags.join(", "),
    headers: pairsOf(headers),
    parameters: Object.entries(parameters).map(([name, parameter]) => parameterOf(name, parameter)),
    json: takes === "json" ? writeExact(body.json ?? null, "  ") : NEW_DRAFT.json,
    form: takes === "form" ? pairsOf(body.form ?? {}) : [],
    text: body?.text ?? "",
    content_type: body?.content_type ?? content_type ?? "",
  };
}

/**
 * Return the document as JSON; `findFormErrors` must have found nothing.
 * @param {Draft} draft @param {Record<string, any>} [more] Further members, such as a sample.
 * @param {string} [indent] Spaces of one level. Empty: all in one line.
 */
export function documentOf(draft, more = {}, indent = "") {
  const hasBody = draft.takes !== "payload";
  const tags = draft.tags.split(",").map((tag) => tag.trim()).filter(Boolean);
  const document = {
    ...draft.rest,
    id: draft.id,
    title: draft.title || undefined,
    help: draft.help || undefined,
    description: draft.description || undefined,
    tags: tags.length > 0 ? tags : undefined,
    integration: draft.integration,
    method: draft.method || undefined,
    url: draft.url,
    headers: objectOf(draft.headers),
    content_type: hasBody ? undefined : draft.content_type || undefined,
    parameters: hasBody ? parametersOf(draft.parameters) : undefined,
    body: hasBody ? bodyOf(draft) : undefined,
    ...more,
  };
  return writeExact(inOrder(draft.order, document), indent);
}

/**
 * Return a sentence for each part of the form that no document can hold: duplicate names, and text that is not JSON.
 * @param {Draft} draft
 * @returns {Partial<Record<"headers" | "parameters" | "form" | "json", string>>}
 */
export function findFormErrors({ headers, parameters, form, json, takes }) {
  /** @param {{ name: string }[]} rows @param {string} kind */
  const duplicateError = (rows, kind) => {
    const name = rows.find((row, index) => row.name !== "" && rows.findIndex((other) => other.name === row.name) < index)?.name;
    return name === undefined ? undefined : `Two ${kind} are called ${name}. Rename or remove one.`;
  };
  const hasBody = takes !== "payload";
  const errors = {
    headers: duplicateError(headers, "headers"),
    parameters: hasBody ? duplicateError(parameters, "parameters") : undefined,
    form: takes === "form" ? duplicateError(form, "fields") : undefined,
    json: takes === "json" ? jsonError(json) : undefined,
  };
  return Object.fromEntries(Object.entries(errors).filter(([, text]) => text));
}

/** @param {string} text */
function jsonError(text) {
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return `This is not JSON. ${/** @type {Error} */ (error).message}.`;
  }
}

/** @param {Draft} draft @returns {import("./form_of_preset.js").Form} The form of a sender. */
export function formOf(draft) {
  const { id, title, help, takes, content_type } = draft;
  const shared = { id, title: title || id, help, problem: false, content_type: content_type || null };
  if (takes === "payload") return { ...shared, takes: "payload", parameters: [] };
  const parameters = draft.parameters.filter(({ name }) => name !== "");
  return {
    ...shared,
    takes: "parameters",
    parameters: parameters.map((parameter) => {
      const typed = documentOfParameter(parameter);
      const plain = (/** @type {any} */ value) => exactText(value) ?? value;
      return {
        ...parameter,
        format: /** @type {any} */ (parameter.format || null),
        max_length: Number(parameter.max_length) || null,
        default: plain(typed.default) ?? null,
        example: plain(typed.example) ?? null,
        enum: typed.enum ? typed.enum.map(plain) : null,
      };
    }),
  };
}

/** @param {Draft} draft The names in `{{name}}` that are no parameter yet. */
export function undeclared({ url, headers, json, form, text, takes, parameters }) {
  const body = takes === "json" ? [json] : takes === "form" ? form.map(({ value }) => value) : [text];
  const texts = takes === "payload" ? [] : [url, ...headers.map(({ value }) => value), ...body];
  // `{{{{` writes `{{`.
  const placeholders = texts.flatMap((text) => [...text.replaceAll("{{{{", "").matchAll(/\{\{([A-Za-z_][\w-]{0,62})\}\}/g)]);
  const known = new Set(parameters.map(({ name }) => name));
  return [...new Set(placeholders.map(([, name]) => name))].filter((name) => !known.has(name));
}

/** @param {Draft} draft */
function bodyOf({ takes, json, form, text, content_type }) {
  // Unchanged, since parsing would drop a key that occurs twice, which Sidekey reports.
  if (takes === "json") return { json: new Exact(json) };
  return takes === "form" ? { form: objectOf(form) ?? {} } : { text, content_type: content_type || undefined };
}

/** @param {Parameter[]} parameters */
function parametersOf(parameters) {
  return objectFrom(parameters.map((parameter) => [parameter.name, documentOfParameter(parameter)]));
}

/** @param {Parameter} parameter */
function documentOfParameter(parameter) {
  const { type, required, max_length, title, help, format } = parameter;
  /** @param {string} text */
  const typed = (text) => (type === "number" ? numberOf(text) : type === "boolean" && /^(?:true|false)$/.test(text) ? text === "true" : text);
  const choices = parameter.enum.split("\n").map((line) => line.trim()).filter(Boolean);
  // An optional parameter needs a default: a text is empty, and true or false is false.
  const fallback = parameter.default === "" ? { text: "", boolean: false, number: undefined }[type] : typed(parameter.default);
  return inOrder(parameter.order, {
    type,
    required: required || fallback !== undefined ? undefined : false,
    default: required ? undefined : fallback,
    max_length: max_length === "" ? undefined : numberOf(max_length),
    enum: choices.length > 0 ? choices.map(typed) : undefined,
    title: title || undefined,
    help: help || undefined,
    example: parameter.example === "" ? undefined : typed(parameter.example),
    format: format || undefined,
  });
}

/** @param {string} name @param {any} parameter @returns {Parameter} */
function parameterOf(name, parameter) {
  const { type = "text", required, default: value, max_length, title = "", help = "", example, format } = parameter;
  return {
    name, type, title, help,
    order: Object.keys(parameter),
    required: required ?? (value === undefined || value === null),
    default: textOf(value),
    max_length: textOf(max_length),
    enum: (parameter.enum ?? []).map(textOf).join("\n"),
    example: textOf(example),
    format: format ?? "",
  };
}

/** @param {any} value */
function textOf(value) {
  return value === undefined || value === null ? "" : exactText(value) ?? String(value);
}

/** @param {Record<string, any>} values @returns {Pair[]} */
function pairsOf(values) {
  return Object.entries(values).map(([name, value]) => ({ name, value: textOf(value) }));
}

/** @param {Pair[]} pairs */
function objectOf(pairs) {
  return objectFrom(pairs.filter(({ name, value }) => name !== "" || value !== "").map(({ name, value }) => [name, value]));
}

/** @param {string[]} order @param {Record<string, any>} members Those that have no order come last. */
function inOrder(order, members) {
  return { ...Object.fromEntries(order.map((key) => [key, undefined])), ...members };
}

/** @param {[string, any][]} entries Return undefined without entries, so that the document omits the key. */
function objectFrom(entries) {
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}
