// Send a preset once, and fetch its result if the response is lost.

import { get, post } from "./api.js";

const ASK_EVERY = 2000;
/** Sidekey reports a send as unknown after 90 seconds. */
const ASK_TIMES = 48;
/** Problems with a 5xx status after which Sidekey has sent nothing. */
const NOTHING_SENT = new Set(["store_unavailable", "stopping"]);

/**
 * @typedef {import("./api.js").Schemas["Send"]} Send
 * @typedef {import("./api.js").Problem} Problem
 * @typedef {{ send: Send } | { problem: Problem, status: number, retryAfter: number | null } | { lost: true } | { away: true }} Sent
 *   `lost`: Sidekey has no such send. `away`: Sidekey could not be asked.
 */

export const wait = (/** @type {number} */ milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** @param {Sent} sent Return True if the same content could arrive a second time. */
export function mayHaveArrived(sent) {
  if ("problem" in sent) return false;
  return !("send" in sent) || ["accepted", "failed", "unknown"].includes(sent.send.outcome);
}

/** Return a new key. `randomUUID` exists in secure contexts only. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Send, and fetch the result until it is certain.
 * @param {string} preset @param {string} key @param {string} body JSON.
 * @param {{ onAsk: (connected: boolean) => void, givenUp?: () => boolean }} options `onAsk` is called before each question, `givenUp` ends them.
 * @returns {Promise<Sent>}
 */
export async function send(preset, key, body, { onAsk, givenUp = () => false }) {
  const headers = { "Idempotency-Key": key, "Content-Type": "application/json" };
  const result = await post(`/presets/${encodeURIComponent(preset)}/sends`, body, { headers });
  if (result.ok) return { send: result.body };
  const { problem, status, retryAfter } = result;
  const isUncertain = status === 0 || problem.code === "sending" || (status >= 500 && !NOTHING_SENT.has(problem.code));
  return isUncertain ? ask(key, { onAsk, givenUp, connected: status !== 0 }) : { problem, status, retryAfter };
}

/**
 * Fetch the result of a send.
 * @param {string} key @param {{ onAsk: (connected: boolean) => void, givenUp?: () => boolean, connected?: boolean }} options
 * @returns {Promise<Sent>}
 */
export async function ask(key, { onAsk, givenUp = () => false, connected = true }) {
  for (let times = 0; times < ASK_TIMES && !givenUp(); times += 1) {
    onAsk(connected);
    await wait(ASK_EVERY);
    const result = await get(`/sends/${key}`);
    if (result.ok && result.body.outcome !== "sending") return { send: result.body };
    connected = result.status > 0;
    if (result.ok || result.problem.code === "sending" || !connected || result.status >= 500) continue;
    return result.problem.code === "not_found" ? { lost: true } : { away: true };
  }
  return { away: true };
}
