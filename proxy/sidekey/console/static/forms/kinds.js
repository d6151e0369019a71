// The fields of each kind and provider, in the order in which people fill them in.
import { capitalized, keyText } from "../words.js";
import { pointer } from "./document.js";

/**
 * @typedef {import("./model.js").Field} Field
 * @typedef {import("../api.js").Schemas["TemplateField"]} TemplateField
 * @typedef {import("../api.js").Schemas["Provider"]} Provider
 */

/** @type {Field} */
const PREFIX = {
  key: "endpoint_prefix",
  type: "prefixes",
  path: ["endpoint_prefix"],
  label: "Endpoint prefix",
  required: true,
  example: "https://api.example.com/v1",
  help: "Requests may go to this URL and below it, and nowhere else.",
};

/** @type {Field} */
const TEST = {
  key: "test",
  type: "test",
  path: ["test"],
  label: "Test",
  help: "Sidekey sends this request with an empty body. 200 is success.",
};

/** @param {string} name @param {string} label @param {Partial<Field>} [more] @returns {Field} */
function ofAuth(name, label, more = {}) {
  return { key: name, type: "text", path: ["auth", name], label, ...more };
}

/** @type {[string, string][]} */
const AUTHENTICATIONS = [
  ["header", "In the Authorization header"],
  ["body", "In the body"],
  ["query", "In the query"],
];

const LOG_IN = [
  ofAuth("username", "User name", { type: "secret", required: true, isReadable: true }),
  ofAuth("password", "Password", { type: "secret", required: true }),
];

/** @type {Record<string, Field[]>} */
const FORMS = {
  oauth2: [
    ofAuth("token_endpoint", "Token endpoint", { required: true, input: "url", example: "https://login.example.com/oauth2/token" }),
    {
      key: "domains",
      type: "domains",
      path: ["allowed_domains"],
      label: "Allow webhooks from domains other than the token's endpoint",
      example: "https://api.example.com",
    },
    ofAuth("client_id", "Client ID", { required: true }),
    ofAuth("client_secret", "Client secret", { type: "secret", required: true }),
    ofAuth("client_authentication", "Client authentication", { type: "choice", options: AUTHENTICATIONS }),
    {
      key: "token_request",
      type: "parameters",
      path: ["auth", "token_request"],
      label: "Additional fields",
      help: "Sidekey sends them to the token endpoint, such as scope or audience.",
    },
    TEST,
  ],
  basic: [PREFIX, ...LOG_IN, TEST],
  headers: [PREFIX, { key: "headers", type: "headers", path: ["auth", "headers"], label: "Headers", required: true }, TEST],
  responsys: [
    ofAuth("login_endpoint", "Login URL", { required: true, input: "url", example: "https://login2.responsys.net" }),
    ...LOG_IN,
    TEST,
  ],
  mtls: [
    PREFIX,
    ofAuth("certificate", "Certificate", { type: "pem", wrap: "inline", byUrl: true, required: true, help: "Only PEM. It may contain its intermediates." }),
    ofAuth("allow_private_ca", "The certificate may be self-signed, or of an authority that is not public", { type: "check" }),
    ofAuth("private_key", "Private key", { type: "pem", byUrl: true, required: true, help: "Only PEM without a password." }),
    TEST,
  ],
};

export const RESPONSYS_ADVICE =
  "Use a user for Sidekey alone, with the fewest roles and a strong password: a log-in elsewhere ends Sidekey's session.";

/** @type {Field[]} */
const NAMES = [
  { key: "title", type: "text", path: ["title"], label: "Name" },
  { key: "id", type: "text", path: ["id"], label: "ID", required: true, help: "Programs and presets use this ID. It cannot be changed later." },
];

/** @param {string} kind @param {string} [provider] Return True if a form was designed, so that no template is needed. */
export function isDesigned(kind, provider) {
  return !provider && Object.hasOwn(FORMS, kind);
}

/**
 * Return the fields of a form.
 * @param {string} kind @param {Provider | null} provider
 * @param {TemplateField[]} template Of a provider, and of a kind for which no form was designed.
 * @returns {Field[]}
 */
export function fieldsOf(kind, provider, template) {
  if (provider === null && Object.hasOwn(FORMS, kind)) return [...NAMES, ...FORMS[kind]];
  const parameters = (provider?.parameters ?? []).map(ofParameter);
  const known = new Set(parameters.map(({ key }) => key));
  const designed = FORMS[kind] ?? [];
  const rest = template.map((field) => designed.find(({ path }) => pointer(path) === pointer(field.path)) ?? ofTemplate(field)).filter(({ key }) => !known.has(key));
  if (kind === "oauth2" && mayHaveSecret(rest)) rest.push(ofAuth("client_secret", "Client secret", { type: "secret" }));
  const signers = kind === "jwt" && provider === null ? rest.flatMap(withSecret) : rest;
  return [...NAMES, ...parameters, ...signers, TEST];
}

/**
 * Return a request to test with, which needs no change: that of the provider, or of its notes.
 * @param {Provider | null} provider @returns {{ method: string, path: string } | null}
 */
export function suggestedTest(provider) {
  if (provider?.test?.path) return { method: provider.test.method ?? "GET", path: provider.test.path };
  // Paths with parts in upper case or dots in a row contain what only the person knows.
  const [, path] = /`GET (\/[^`\s]+)`/.exec(provider?.notes ?? "") ?? [];
  return path === undefined || /[A-Z_]{2}|\.\./.test(path) ? null : { method: "GET", path };
}

/** @param {Provider["parameters"][number]} parameter @returns {Field} */
function ofParameter({ name, description, example, type, required, suggestions = [] }) {
  return ofAuth(name, capitalized(keyText(name)), {
    required,
    help: description,
    example: String(example),
    suggestions,
    input: type === "number" ? "number" : "text",
    start: suggestions[0],
    isOptional: !required,
  });
}

/** @param {TemplateField} field @returns {Field} */
function ofTemplate({ path, description, type, values }) {
  if (pointer(path) === pointer(PREFIX.path)) return PREFIX;
  const key = path[0] === "auth" ? path.slice(1).join(".") : path.join(".");
  /** @type {Field} */
  const field = { key, type: "text", path, label: capitalized(keyText(path[path.length - 1])), required: true, help: description };
  if (type === "secret") return { ...field, type };
  if (type === "pem") return { ...field, type };
  if (type === "certificate") return { ...field, type: "pem", wrap: "inline" };
  // The list of a choice is in its description, too.
  const help = description.replace(/ One of [^.]*\.$/, "");
  return values.length > 0 ? { ...field, type: "choice", options: values.map((value) => [value, value]), start: values[0], help } : field;
}

/** @param {Field[]} fields Return True if a client may have a secret that its provider does not require. */
function mayHaveSecret(fields) {
  const keys = fields.map(({ key }) => key);
  return keys.includes("client_id") && !keys.some((key) => key === "client_secret" || key.startsWith("client_authentication."));
}

/** @param {import("./model.js").Values} values Return True if a JWT is signed by a secret (RFC 7518 3.2). */
const hasSecret = ({ algorithm }) => algorithm.startsWith("HS");

/** @param {Field} field @returns {Field[]} The private key of a JWT, with the secret that some algorithms have in its place. */
function withSecret(field) {
  if (field.key !== "private_key") return [field];
  const help = "At least as long as the hash: 32 bytes for HS256, 48 for HS384, 64 for HS512.";
  return [
    { ...field, isUsed: (values) => !hasSecret(values) },
    ofAuth("secret", "Secret", { type: "secret", required: true, help, isUsed: hasSecret }),
  ];
}

/** @param {string} id Return the next ID to propose if this one is taken, such as "criteo-2" for "criteo". */
export function nextId(id) {
  const [, stem, number] = /^(.*?)(?:-(\d{1,4}))?$/.exec(id) ?? [];
  const end = `-${Number(number ?? 1) + 1}`;
  return `${stem.slice(0, 63 - end.length)}${end}`;
}
