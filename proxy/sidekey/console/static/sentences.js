// Sentences of the audit: who did what to which object, and with which outcome.
import { keyText, personName } from "./words.js";

/**
 * @typedef {import("./api.js").Schemas["Entry"] & Partial<import("./api.js").Schemas["AuditedEntry"]>} Entry
 * @typedef {string | { object: string, name: string, text: string }} Part A text, or an object to link to.
 */

/**
 * Each action as a past and an infinitive; `{}` stands for the object. "create token" is more specific than "create".
 * @type {Record<string, [string, string]>}
 */
const ACTIONS = {
  create: ["added {}", "add {}"],
  "create token": ["gave {} a token", "give {} a token"],
  update: ["changed {}", "change {}"],
  delete: ["deleted {}", "delete {}"],
  revoke: ["revoked the token of {}", "revoke the token of {}"],
  rotate: ["gave {} a new token", "give {} a new token"],
  login: ["logged in", "log in"],
  end: ["ended a session of {}", "end a session of {}"],
  test: ["tested {}", "test {}"],
  "test draft": ["tested unsaved changes of {}", "test unsaved changes of {}"],
  import: ["imported {}", "import {}"],
  "rotate-key": ["made {} the key of the store", "make {} the key of the store"],
  send: ["sent {}", "send {}"],
  "send batch": ["started a batch of # with {}", "start a batch with {}"],
};

/** @type {Record<string, string>} The end of a sentence, by outcome. */
const ENDINGS = {
  "send ok": ": accepted",
  "send failed": ": not accepted",
  "send unknown": ": it may have been sent",
  "send sent": ": no result yet",
  "send batch started": "",
  "test ok": ": it works",
  "test failed": ": it failed",
  "test unknown": ": it may have been sent",
  "test sent": ": no result yet",
  "rotate-key stuck": ", but some rows cannot be read",
};

/** @type {Record<string, string>} Why a change was refused, by code. */
const REFUSALS = {
  forbidden: "but may not",
  unconfirmed: "but may not, or did not confirm it with their own token",
  not_found: "but it does not exist",
  exists: "but the name is in use",
  read_only: "but it is set in a config file",
  in_use: "but presets use it",
  overlaps: "but two integrations would cover the same target",
  changed: "but somebody else changed it first",
  reenter: "but did not enter the secrets again",
  login_again: "but did not confirm it",
};

/** @type {Record<string, string>} Events of which the audit lists a hundred in an hour. */
const UNLISTED = { login: "log-ins", "refused change": "refused changes", "test draft": "tests of unsaved integrations" };

/** Actions that have a sentence. */
export const KNOWN = [...Object.keys(ACTIONS), ...Object.keys(UNLISTED), "altered"];

/** @type {Record<string, string>} */
const KINDS = { integration: "the integration", preset: "the preset", caller: "the caller" };

/** Keys that sentences name. */
const FIELDS = new Set([
  "allowed_domains", "allowed_methods", "body", "certificate", "client_id", "client_secret", "description", "domains", "endpoint_prefix",
  "expires_at", "headers", "help", "integration", "integrations", "method", "parameters", "password", "per_day", "per_minute", "presets", "private_key",
  "refresh_token", "role", "scope", "secret", "tags", "test", "title", "token_endpoint", "token_request", "url",
  "username",
]);

/** @type {Record<string, string>} Keys whose words differ from their name. */
const FIELD_TEXTS = {
  expires_at: "expiry", help: "help text", per_day: "limit of a day", per_minute: "limit of a minute", test: "test settings", token_request: "additional fields",
};

const SECRETS = new Set(["certificate", "client_secret", "password", "private_key", "refresh_token", "secret"]);
const MAX_FIELDS = 3;

/** @param {Entry} entry @returns {Part[]} */
export function sentenceOf(entry) {
  const { action, outcome, object = "", name = "" } = entry;
  const person = actorOf(entry);
  if (action === "altered") return ["Something other than Sidekey altered this entry."];
  if (outcome === "more not listed") return [`${person}: more ${UNLISTED[action] ?? action} in this hour are not listed.`];
  const known = ACTIONS[`${action} ${object}`] ?? ACTIONS[action];
  if (!known) return [`${person}: ${action} `, ...objectOf(entry), ` (${outcome}).`];
  const refused = !(outcome === "ok" || `${action} ${outcome}` in ENDINGS || outcome === "failed");
  if (refused) {
    // An entry does not say which of the two it was.
    const reason = outcome === "forbidden" && (object === "token" || action === "rotate") ? "unconfirmed" : outcome;
    return [`${person} tried to `, ...withObject(known[1], entry), `, ${REFUSALS[reason] ?? `but Sidekey refused it (${outcome})`}.`];
  }
  const ending = ENDINGS[`${action.replace(" draft", "")} ${outcome}`] ?? (outcome === "ok" ? "" : `: ${outcome}`);
  if (action === "test draft" && name === "") return [`${person} tested an unsaved ${object || "document"}${ending}.`];
  const isChange = action === "update" && entry.fields.some((field) => field !== "");
  const words = isChange ? `${changeOf(entry.fields)} of {}` : known[0].replace("#", rowsIn(entry.fields));
  return [`${person} `, ...withObject(words, entry), `${ending}.`];
}

/** @type {Record<string, string>} The action of the API for each verb of a sentence. */
const VERBS = { replaced: "update" };
for (const [action, [past]] of Object.entries(ACTIONS)) VERBS[past.split(" ")[0]] = action.split(" ")[0];

/** @param {string} q Return the search with the verbs of sentences as the API names their actions. */
export const toApiSearch = (q) =>
  q.replace(/\bnot accepted\b/gi, "failed").split(" ").map((word) => VERBS[word.toLowerCase()] ?? word).join(" ");

/** @param {{ who: string, label: string }} entry Who did it. The name of an operator never begins as an identity does. */
export const actorOf = ({ who, label }) => personName({ name: who, label, identity: who });

/** @param {Entry} entry */
export function textOf(entry) {
  return sentenceOf(entry)
    .map((part) => (typeof part === "string" ? part : part.text))
    .join("");
}

/** @param {string} words @param {Entry} entry @returns {Part[]} */
function withObject(words, entry) {
  const [before, after] = words.split("{}");
  return after === undefined ? [before] : [before, ...objectOf(entry), after].filter((part) => part !== "");
}

/** @param {Entry} entry @returns {Part[]} */
function objectOf({ action, outcome, object = "", name = "", title }) {
  if (name === "") return [{ "": "something", session: "somebody", token: "somebody", integration: "an integration" }[object] ?? `a ${object}`];
  if (object === "") return [name];
  const kind = action.startsWith("send") ? undefined : KINDS[object];
  const isGone = outcome === "ok" && (action === "delete" || action === "revoke");
  const wasNeverThere = outcome === "not_found" || (action === "create" && outcome !== "ok" && outcome !== "exists");
  if (isGone || wasNeverThere) return [[kind, title || name].filter(Boolean).join(" ")];
  return [...(kind ? [`${kind} `] : []), { object, name, text: title || name }];
}

/** @param {string[]} pointers */
function changeOf(pointers) {
  const keys = pointers.map((pointer) => pointer.split("/").filter(Boolean));
  const names = [...new Set(keys.map(fieldText))];
  const more = names.length - MAX_FIELDS;
  const shown = more > 1 ? [...names.slice(0, MAX_FIELDS), `${more} more settings`] : names;
  const verb = keys.every((parts) => SECRETS.has(fieldOf(parts) ?? "")) ? "replaced" : "changed";
  return `${verb} ${new Intl.ListFormat("en", { type: "conjunction" }).format(shown)}`;
}

/** @param {string[]} parts */
function fieldText(parts) {
  const key = fieldOf(parts);
  return key === undefined ? `“${parts.join(" › ")}”` : `the ${FIELD_TEXTS[key] ?? keyText(key)}`;
}

/** @param {string[]} parts Return the last key of a pointer that sentences name. */
function fieldOf(parts) {
  if (parts[0] === "test") return "test";
  // The body of a request for a token is no field of a form: it has additional fields.
  return parts.findLast((key, index) => FIELDS.has(key) && parts[index - 1] !== "token_request");
}

/** @param {string[]} fields Return the rows of a file that a batch may have: "rows 900 to 1000". */
function rowsIn(fields) {
  const [first, last] = /^rows:(\d+)-(\d+)$/m.exec(fields.join("\n"))?.slice(1) ?? [];
  if (first === undefined) return "several rows";
  return first === last ? `row ${first}` : `rows ${first} to ${last}`;
}
