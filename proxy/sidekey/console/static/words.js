// The only module with sentences about results, states, roles and people. They never repeat a text of an upstream.
import { REMEDIES } from "./errors.js";
import { ago, clock, duration, number } from "./time.js";

/**
 * @typedef {"good" | "warning" | "bad" | "quiet"} Mood
 * @typedef {{ mood: Mood, text: string, advice: string }} Words `advice`: what to do, or empty.
 * @typedef {Pick<import("./api.js").Schemas["Send"], "outcome" | "status" | "code" | "host" | "milliseconds" | "retry_after">} Send
 */

/** @typedef {{ status: number, code: string, reason?: string }} Result Of a failed request; `reason`: why there was no credential. */

/** @type {Record<string, [Mood, string]>} States of integrations and presets, and outcomes of sends. */
export const STATES = {
  ok: ["good", "OK"],
  expiring: ["warning", "Expires soon"],
  failing: ["bad", "Failing"],
  unusable: ["bad", "Cannot be used"],
  accepted: ["good", "Accepted"],
  refused: ["bad", "Not accepted"],
  failed: ["bad", "Error"],
  not_sent: ["bad", "Not sent"],
  unknown: ["warning", "Unknown"],
  sending: ["quiet", "Under way"],
};

/** @type {Record<string, { name: string, does: string }>} */
export const ROLES = {
  sender: { name: "Sender", does: "sends the presets that you allow" },
  viewer: { name: "Viewer", does: "reads and tests" },
  editor: { name: "Editor", does: "sets up integrations and presets" },
  admin: { name: "Admin", does: "decides who may do what" },
};

/** @type {Record<string, string>} Kinds in the order of the API, which has their titles too. */
export const KINDS = {
  basic: "Basic",
  headers: "Custom headers",
  oauth2: "OAuth 2.0",
  responsys: "Oracle Responsys",
  mtls: "Client certificate (mTLS)",
  signature: "Signed requests",
  session: "Session",
  jwt: "Signed JWT",
  aws_sigv4: "AWS Signature Version 4",
};

/** @param {string | null} kind */
export const kindName = (kind) => KINDS[kind ?? ""] ?? kind ?? "";

const TELL_A_DEVELOPER = "Tell a developer, with the request ID.";

/** @param {Send} send @returns {Words} */
export function outcomeWords({ outcome: result, status, code, host, milliseconds, retry_after: retryAfter }) {
  const upstream = host || "The service";
  switch (result) {
    case "accepted":
      return good(`Accepted by ${host || "the service"} (${status}) in ${duration(milliseconds)}.`);
    case "refused":
      return refused(upstream, status, retryAfter ?? null);
    case "failed":
      return bad(`${upstream} reported an error (${status}). It may have acted on it.`, "Check there before you send it again.");
    case "not_sent":
      return notSent(upstream, code);
    case "sending":
      return { mood: "quiet", text: "Still under way.", advice: "Wait for the result before you send it again." };
    default:
      return warning("Unknown: it may have been sent.", `Check at ${host || "the service"} before you send it again.`);
  }
}

/** @type {Record<string, string>} */
const COUNT_TEXTS = { failed: "with an error", sending: "under way" };

/** @param {Record<string, number>} outcomes Numbers of sends by outcome: "236 accepted · 4 refused". */
export const countsText = (outcomes) =>
  Object.entries(outcomes).map(([name, count]) => `${number(count)} ${COUNT_TEXTS[name] ?? name.replace("_", " ")}`).join(" · ");

/** @param {string} host @param {number | null} status @param {number | null} retryAfter @returns {Words} */
function refused(host, status, retryAfter) {
  if (status === 401 || status === 403) {
    return bad(`${host} refused Sidekey's credential (${status}).`, "Tell a developer: the integration's password may have changed.");
  }
  if (status === 400 || status === 404 || status === 409 || status === 422) {
    return bad(`${host} did not accept the content (${status}).`, "Compare each field with its help and example. If all are right, tell a developer, with the request ID.");
  }
  if (status === 429) {
    return warning(`${host} asks you to slow down (429).`, retryAfter ? `Try again in ${waitText(retryAfter)}.` : "Try again later.");
  }
  return bad(`${host} did not accept it (${status}).`, TELL_A_DEVELOPER);
}

/** @param {string} host @param {string | null} code @returns {Words} */
function notSent(host, code) {
  const unreached = bad(`Not sent: ${host} could not be reached.`, `Nothing has reached ${host}. Try again, or tell a developer.`);
  const known = {
    upstream_unreachable: unreached,
    upstream_tls_failed: unreached,
    credential_unavailable: bad("Not sent: the credential is not usable now.", "Nothing has left Sidekey. Tell a developer."),
    store_unavailable: bad("Not sent: Sidekey could not write it down first.", "Your text is still here. Send it again."),
  }[code ?? ""];
  return known ?? bad(code ? `Not sent: Sidekey refused it (${code}).` : "Not sent: Sidekey refused it.", TELL_A_DEVELOPER);
}

/**
 * Describe a send that the API refused. Errors of parameters belong to their fields.
 * @param {import("./api.js").Problem} problem @param {number | null} retryAfter
 * @param {{ per_minute: number | null, per_day: number | null }} [limits] Those of the person.
 */
export function sendProblem(problem, retryAfter, limits = { per_minute: null, per_day: null }) {
  if (problem.code === "send_limit") return warning(limit(problem, limits), retryAfter ? `You can go on in ${waitText(retryAfter)}.` : "");
  return SEND_PROBLEMS[problem.code] ?? bad(`Not sent: ${problem.title}.`, sentence(problem.detail));
}

/** @param {import("./api.js").Problem} problem @param {{ per_minute: number | null, per_day: number | null }} limits */
function limit(problem, limits) {
  const isDay = problem.errors.some((error) => error.pointer === "/per_day");
  const most = isDay ? limits.per_day : limits.per_minute;
  const period = isDay ? "24 hours" : "a minute";
  return most ? `You have sent ${number(most)} in ${period}, which is your limit.` : `Your limit in ${period} is reached.`;
}

/** @param {Omit<import("./api.js").Schemas["TestResult"], "request">} result @param {boolean} [hasWorked] Whether a request has succeeded before. @returns {Words} */
export function testWords({ ok, status, code, reason, note, milliseconds }, hasWorked = false) {
  const more = note ? sentence(note) : "";
  if (ok) return { ...good(`It works: the response was ${status} in ${duration(milliseconds)}.`), advice: more };
  const advice = adviceFor({ status: status ?? 0, code: code ?? "", reason }, hasWorked);
  const text = code ? `It does not work: ${withFieldNames(reason)}.` : `It does not work: the response was ${status} in ${duration(milliseconds)}, not 200.`;
  return bad(text, [advice, more].filter(Boolean).join(" "));
}

/** @param {string} reason Why Sidekey could not get a credential. Return True if the log-in or token endpoint refused it. */
const isRefusedThere = (reason) => / returned 40[013]\b/.test(reason);

/** @param {string} reason Why Sidekey could not get a credential. */
function credentialAdvice(reason) {
  if (isRefusedThere(reason)) return "The client ID, the user or the secret is refused: check them, and enter the secret again.";
  return /endpoint|login/.test(reason) ? "Check its URL, and whether its host is up." : "";
}

/** @param {number} seconds Warn that the same content was sent a short time ago. @returns {Words} */
export const sentJustNow = (seconds) => warning(`You sent the same content ${waitText(seconds)} ago.`, "");

/** @type {Record<string, string>} */
const LOG_IN_PROBLEMS = {
  unauthenticated: "This token is not known or has expired.",
  store_denied: "This Sidekey only serves. Log in at the Sidekey that edits.",
  store_unavailable: "Sidekey's database cannot be reached. Try again in a minute.",
  too_many: "Many people are logging in. Try again in a minute.",
  no_role: "Your account may not use Sidekey. Ask an admin for a role.",
  oidc_unavailable: "The company log-in cannot be reached. Try again in a minute.",
  login_again: "Confirm it is you first.",
};

/** @param {import("./api.js").Problem} problem Why a log-in failed. */
export function logInProblem({ code, title, detail }) {
  if (code === "oidc_failed") return `The company log-in failed: ${detail}.`;
  return LOG_IN_PROBLEMS[code] ?? `${title}. ${sentence(detail)}`;
}

/** @param {import("./api.js").Problem} problem Why a change of one object was refused. */
export function refusalText({ code, title, detail }) {
  if (code === "changed") return "Not done: somebody else has changed it meanwhile.";
  if (code === "not_found") return "It does not exist any more.";
  return `Not done: ${detail || title}.`;
}

/**
 * The status of an integration, which lists filter by.
 * @param {{ status: string, expires_at: string | null, failing_since: string | null }} integration
 * @returns {{ status: string, text?: string }}
 */
export function stateOf({ status, expires_at: expires, failing_since: since }) {
  if (status === "failing" && since) return { status, text: `Failing since ${clock(since)}` };
  if (status === "expiring" && expires) return { status, text: `Expires ${ago(expires)}` };
  return { status };
}

/**
 * Describe usage and failures beside the status "OK", which only means that the settings are valid.
 * @param {string} status
 * @param {{ points: [requests: number, failed: number][], last_used_at: string | null } | null | undefined} usage
 */
export function usageNote(status, usage) {
  if (status !== "ok" || !usage) return "";
  if (usage.last_used_at === null) return "Not used yet";
  const last = usage.points.findLast(([requests]) => requests > 0);
  return last && last[0] === last[1] ? "No request succeeded lately" : "";
}

/** @param {string} at */
const isRecent = (at) => Date.now() - Date.parse(at) < 60_000;

/**
 * Describe the problem of an integration, and since when it exists.
 * @param {{ status: string, problem: string | null, updated_at: string | null }} integration
 * @param {Result & { at: string }} [failure] The newest failure, if it is known.
 * @param {string} [lastSuccess] When its last test succeeded; empty: that is not known.
 */
export function statusReason({ status, problem, updated_at: changed }, failure, lastSuccess = "") {
  if (problem) {
    const last = status === "failing" && failure ? ` The last failure: ${failureText(failure)}.` : "";
    return `${sentence(withFieldNames(problem))}${last}`;
  }
  if (lastSuccess > (failure?.at ?? "") && lastSuccess >= (changed ?? "")) return `Tested ${isRecent(lastSuccess) ? "just now" : clock(lastSuccess)}.`;
  if (failure && changed && changed > failure.at) return `Changed ${clock(changed)}, after its last failure. Test it to see whether it works now.`;
  return failure ? `Last failure ${ago(failure.at)}: ${failureText(failure)}.` : "";
}

/** @type {Record<string, string>} A failure without a response of the upstream, by its code. */
const FAILURES = {
  upstream_unreachable: "could not be reached",
  upstream_tls_failed: "TLS failed",
  upstream_timeout: "did not respond in time",
  upstream_protocol_error: "sent an invalid response",
  credential_unavailable: "Sidekey could not get the credential",
  target_denied: "Sidekey refused the target",
  method_denied: "Sidekey refused the method",
  destination_denied: "Sidekey may not connect there",
  overloaded: "Sidekey is at a limit",
};

/**
 * Describe a failed request in a few words: by the status of the upstream, or the code of Sidekey.
 * @param {Result} failure
 */
export function failureText({ status, code, reason }) {
  if (code) return `${FAILURES[code] ?? code}${reason ? `: ${reason}` : ""}`;
  return status ? String(status) : "no response";
}

/** @type {Record<string, string>} Failed requests in usage, by result. */
const RESULTS = {
  "401/403": "credential refused (401, 403)",
  "4xx": "not accepted (4xx)",
  429: "too many requests (429)",
  "5xx": "error of the provider (5xx)",
  unreachable: "host not reached",
  tls: "TLS failed",
  protocol: "invalid response",
  timeout: "no response in time",
  credential: "credential not obtained",
  other: "refused by Sidekey",
};

/** @param {string} name @param {number} amount */
export const resultText = (name, amount) => `${RESULTS[name] ?? name}: ${number(amount)}`;

/** @param {Result} failure Return True if the upstream or its log-in rejected the credential. */
export const isRejected = ({ status, code, reason = "" }) => (code ? isRefusedThere(reason) : status === 401 || status === 403);

/** @param {Result} failure `status` 0: there was no response. @param {boolean} [hasWorked] Whether a request has succeeded before. */
export function adviceFor({ status, code, reason }, hasWorked = false) {
  if (code === "credential_unavailable" && reason) return credentialAdvice(reason);
  if (code) return REMEDIES[code] ?? "";
  if (isRejected({ status, code })) return hasWorked ? "Most likely the secret was changed at the provider." : "The provider refused this credential: check it, and what it may do there.";
  if (status === 429) return "The provider limits the requests: ask the provider for a higher limit.";
  if (status >= 500) return "The provider reports an error of its own: ask the provider.";
  return "";
}

/** @param {import("./api.js").Schemas["LatencyCount"][]} latency Counts by upper bound, fastest first. */
export function latencyText(latency) {
  const total = latency.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return "";
  const [half, most] = [0.5, 0.95].map((share) => within(latency, total * share));
  return half === most ? `95 % ${most}` : `half ${half}, 95 % ${most}`;
}

/** @param {import("./api.js").Schemas["LatencyCount"][]} latency @param {number} least */
function within(latency, least) {
  let sum = 0;
  for (const { to_ms: limit, count } of latency) {
    sum += count;
    if (sum >= least && limit !== null) return `within ${limit < 1000 ? `${limit} ms` : `${limit / 1000} s`}`;
  }
  return `slower than ${(latency.at(-2)?.to_ms ?? 0) / 1000} s`;
}

/**
 * A person as pages show them. People of the company log-in choose their names, so the end of the subject is always there.
 * @param {{ name: string, label?: string, identity?: string }} person
 */
export function personName({ name, label = "", identity = "" }) {
  return identity.startsWith("oidc:") ? `${label || "Somebody"} (company account, …${identity.slice(-4)})` : name;
}

/** @param {string} name Return an ID for a name, such as "criteo-marketing" for "Criteo Marketing". */
export function idOf(name) {
  const plain = name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replaceAll("ß", "ss");
  return plain.replace(/[^a-z0-9_]+/g, "-").replace(/^[-_]+/, "").slice(0, 63).replace(/-+$/, "");
}

/** @param {string} text */
export const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {string} text Make a sentence of a detail of the API: a capital, and a full stop. */
export function sentence(text) {
  const first = capitalized(text);
  return first === "" || /[.!?]$/.test(first) ? first : `${first}.`;
}

const UPPER = new Set(["api", "aws", "dc", "id", "jwt", "pem", "sid", "uri", "url"]);

/** @param {string} key Return a key in words, such as "client ID" for client_id. */
export function keyText(key) {
  const words = key.split(/[_-]/).map((word) => (UPPER.has(word) ? word.toUpperCase() : word));
  return words.join(" ").replace(/^username$/, "user name");
}

/** @param {string} text Return why values cannot be read, with their names as people read them, such as "certificate" for auth.certificate. */
function withFieldNames(text) {
  const place = /\b(?:auth|client_certificate)\.(?:[\w-]+\.)*?([\w-]+)(?:\.secret)?: /g;
  const named = text.replace(place, (_, key) => `${/^[a-z_]+$/.test(key) ? keyText(key) : key}: `);
  return named.replaceAll("the server: its ", "the server's ").replaceAll("the server: it ", "the server ");
}

/** @param {number} seconds "14 s", "3 min". */
const waitText = (seconds) => (seconds < 10 ? `${Math.max(1, Math.ceil(seconds))} s` : duration(seconds * 1000));

/** @param {string} text @returns {Words} */
const good = (text) => ({ mood: "good", text, advice: "" });
/** @param {string} text @param {string} advice @returns {Words} */
const warning = (text, advice) => ({ mood: "warning", text, advice });
/** @param {string} text @param {string} advice @returns {Words} */
const bad = (text, advice) => ({ mood: "bad", text, advice });

/** @type {Record<string, Words>} */
const SEND_PROBLEMS = {
  invalid: bad("Not sent: check the fields.", ""),
  key_reused: warning("This was sent before with other content.", ""),
  too_many: warning("Several sends are still under way.", "Try again in a second."),
  forbidden: bad("You may no longer send this.", "Ask an admin."),
  store_unavailable: bad("Not sent: Sidekey's database cannot be reached.", "Your text is still here. Try again in a minute."),
  stopping: bad("Not sent: Sidekey is restarting.", "Your text is still here. Try again in a few seconds."),
  store_required: bad("This Sidekey has no store, so it cannot send.", "Ask an admin."),
};
