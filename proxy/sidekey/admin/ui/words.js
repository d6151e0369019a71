// The only module with sentences about results, states, roles and people. A text of an upstream is never repeated.
import { duration, number } from "./time.js";

/**
 * @typedef {"good" | "warning" | "bad" | "quiet"} Mood
 * @typedef {{ mood: Mood, text: string, advice: string }} Words `advice`: what to do, or empty.
 * @typedef {{ outcome: string, status: number | null, code: string | null, host: string | null, milliseconds: number,
 *   retry_after?: number | null }} Send
 */

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

/** @type {Record<string, string>} Kinds with names of their own; `kindName` has the rest. */
const KINDS = {
  basic: "Basic",
  headers: "Custom headers",
  oauth2: "OAuth 2.0",
  responsys: "Oracle Responsys",
  mtls: "Client certificate (mTLS)",
};

/** @param {string} kind */
export const kindName = (kind) => KINDS[kind] ?? kind;

const TELL = "Tell a developer, with the request ID.";

/**
 * The result of a send in words.
 * @param {Send} send
 * @returns {Words}
 */
export function outcome({ outcome: result, status, code, host, milliseconds, retry_after: retryAfter }) {
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
const COUNTED = {
  accepted: "accepted",
  refused: "refused",
  failed: "with an error",
  not_sent: "not sent",
  unknown: "unknown",
  sending: "under way",
};

/** @param {Record<string, number>} outcomes Numbers of sends by outcome: "236 accepted · 4 refused". */
export const counted = (outcomes) =>
  Object.entries(outcomes).map(([name, count]) => `${number(count)} ${COUNTED[name] ?? name}`).join(" · ");

/** @param {string} host @param {number | null} status @param {number | null} retryAfter @returns {Words} */
function refused(host, status, retryAfter) {
  if (status === 401 || status === 403) {
    return bad(`${host} refused Sidekey's credential (${status}).`, "Tell a developer: the integration's password may have changed.");
  }
  if (status === 400 || status === 404 || status === 409 || status === 422) {
    return bad(`${host} did not accept the content (${status}).`, "Check the fields. If they are right, tell a developer.");
  }
  if (status === 429) {
    return warning(`${host} asks you to slow down (429).`, retryAfter ? `Try again in ${wait(retryAfter)}.` : "Try again later.");
  }
  return bad(`${host} did not accept it (${status}).`, TELL);
}

/** @param {string} host @param {string | null} code @returns {Words} */
function notSent(host, code) {
  switch (code) {
    case "upstream_unreachable":
    case "upstream_tls_failed":
      return bad(`Not sent: ${host} could not be reached.`, `Nothing has reached ${host}. Try again, or tell a developer.`);
    case "credential_unavailable":
      return bad("Not sent: the credential is not usable now.", "Nothing has left Sidekey. Tell a developer.");
    case "store_unavailable":
      return bad("Not sent: Sidekey could not write it down first.", "Your text is still here. Send it again.");
    default:
      return bad(code ? `Not sent: Sidekey refused it (${code}).` : "Not sent: Sidekey refused it.", TELL);
  }
}

/**
 * A send that Sidekey's API refused, in words. Errors of parameters belong to their fields.
 * @param {import("./api.js").Problem} problem
 * @param {number | null} retryAfter
 * @param {{ per_minute: number | null, per_day: number | null }} [limits] Those of the person.
 * @returns {Words}
 */
export function sendProblem(problem, retryAfter, limits = { per_minute: null, per_day: null }) {
  switch (problem.code) {
    case "invalid":
      return bad("Not sent: check the fields.", "");
    case "key_reused":
      return warning("This was sent before with other content.", "");
    case "sending":
      return { mood: "quiet", text: "Asking Sidekey what became of it…", advice: "" };
    case "too_many":
      return warning("Several sends are still under way.", "Try again in a second.");
    case "send_limit":
      return warning(limit(problem, limits), retryAfter ? `You can go on in ${wait(retryAfter)}.` : "");
    case "forbidden":
      return bad("You may no longer send this.", "Ask an admin.");
    case "store_unavailable":
      return bad("Not sent: Sidekey's database cannot be reached.", "Your text is still here. Try again in a minute.");
    case "stopping":
      return bad("Not sent: Sidekey is restarting.", "Your text is still here. Try again in a few seconds.");
    case "store_required":
      return bad("This Sidekey has no store, so it cannot send.", "Ask an admin.");
    case "no_connection":
      return warning("No connection to Sidekey. Asking again…", "Keep this page open. If you close it, see Your sends later.");
    case "not_found":
      return warning("Sidekey has not received it.", "Send (the same key: it is never sent twice)");
    default:
      return bad(`Not sent: ${problem.title}.`, problem.detail);
  }
}

/** @param {import("./api.js").Problem} problem @param {{ per_minute: number | null, per_day: number | null }} limits */
function limit(problem, limits) {
  const isDay = problem.errors.some((error) => error.pointer === "/per_day");
  const most = isDay ? limits.per_day : limits.per_minute;
  const period = isDay ? "24 hours" : "a minute";
  return most ? `You have sent ${number(most)} in ${period}, which is your limit.` : `Your limit in ${period} is reached.`;
}

/** @param {number} seconds The same content was sent a short time ago. @returns {Words} */
export const sentJustNow = (seconds) => warning(`You sent the same content ${wait(seconds)} ago.`, "");

/** @param {import("./api.js").Problem} problem Why a log-in failed. */
export function logInProblem(problem) {
  switch (problem.code) {
    case "unauthenticated":
      return "This token is not known or has expired.";
    case "store_denied":
      return "This Sidekey only serves. Log in at the Sidekey that edits.";
    case "store_unavailable":
      return "Sidekey's database cannot be reached. Try again in a minute.";
    case "too_many":
      return "Many people are logging in. Try again in a minute.";
    default:
      return `${problem.title}. ${problem.detail}`;
  }
}

/** @type {Record<string, string>} What to do, by the code of a failure. */
const ADVICE = {
  upstream_unreachable: "The host cannot be reached: check the host name, and whether it is up.",
  upstream_tls_failed: "The TLS connection failed: check the certificate of the host, and which authority you trust.",
  upstream_timeout: "The host did not respond in time: check whether it is slow, or raise the timeout.",
  credential_unavailable: "Sidekey could not get the credential: test the integration to see why.",
  certificate_expired: "The certificate has expired: replace it.",
};

/**
 * What most likely helps when an integration fails.
 * @param {{ status: number, code: string }} failure `status` 0: there was no response.
 */
export function adviceFor({ status, code }) {
  if (code && ADVICE[code]) return ADVICE[code];
  if (status === 401 || status === 403) return "Most likely the secret was changed at the provider: replace the secret.";
  if (status === 429) return "The provider limits the requests: ask the provider for a higher limit.";
  if (status >= 500) return "The provider reports an error of its own: ask the provider.";
  return "";
}

/**
 * A person as pages show them. People of the company log-in choose their names, so the end of the subject is always there.
 * @param {{ name: string, label?: string, identity?: string }} person
 */
export function personName({ name, label = "", identity = "" }) {
  return identity.startsWith("oidc:") ? `${label || name} (company account, …${identity.slice(-4)})` : name;
}

/** @param {number} seconds "14 s", "3 min". */
const wait = (seconds) => (seconds < 10 ? `${Math.max(1, Math.ceil(seconds))} s` : duration(seconds * 1000));

/** @param {string} text @returns {Words} */
const good = (text) => ({ mood: "good", text, advice: "" });
/** @param {string} text @param {string} advice @returns {Words} */
const warning = (text, advice) => ({ mood: "warning", text, advice });
/** @param {string} text @param {string} advice @returns {Words} */
const bad = (text, advice) => ({ mood: "bad", text, advice });
