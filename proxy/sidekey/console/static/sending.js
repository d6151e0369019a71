// Send a preset once, and fetch its result if the response is lost.

import { get, post } from "./api.js";

const FETCH_INTERVAL = 2000;
/** Sidekey reports a send as unknown after 90 seconds. */
const MAX_FETCHES = 48;
/** Problems with a 5xx status after which Sidekey has sent nothing. */
const NOTHING_SENT = new Set(["store_unavailable", "stopping"]);

/**
 * @typedef {import("./api.js").Schemas["Send"]} Send
 * @typedef {import("./api.js").Problem} Problem
 * @typedef {{ send: Send } | { problem: Problem, status: number, retryAfter: number | null } | { lost: true } | { unreachable: true }} SendResult
 *   `lost`: Sidekey has no send with this key. `unreachable`: Sidekey did not say, so the request may have been sent.
 */

export const wait = (/** @type {number} */ milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** @param {SendResult} sent Return True if the same content could arrive a second time. */
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
 * @param {{ onFetch: (connected: boolean) => void, isCancelled?: () => boolean }} options `onFetch` is called before each fetch. The fetches end when `isCancelled` returns True.
 * @returns {Promise<SendResult>}
 */
export async function send(preset, key, body, { onFetch, isCancelled = () => false }) {
  const headers = { "Idempotency-Key": key, "Content-Type": "application/json" };
  const result = await post(`/presets/${encodeURIComponent(preset)}/sends`, body, { headers });
  if (result.ok) return { send: result.body };
  const { problem, status, retryAfter } = result;
  const isUncertain = status === 0 || problem.code === "sending" || (status >= 500 && !NOTHING_SENT.has(problem.code));
  return isUncertain ? fetchResult(key, { onFetch, isCancelled, connected: status !== 0 }) : { problem, status, retryAfter };
}

/**
 * Fetch the result of a send.
 * @param {string} key @param {{ onFetch: (connected: boolean) => void, isCancelled?: () => boolean, connected?: boolean }} options
 * @returns {Promise<SendResult>}
 */
export async function fetchResult(key, { onFetch, isCancelled = () => false, connected = true }) {
  for (let fetches = 0; fetches < MAX_FETCHES && !isCancelled(); fetches += 1) {
    onFetch(connected);
    await wait(FETCH_INTERVAL);
    const result = await get(`/sends/${key}`);
    if (result.ok && result.body.outcome !== "sending") return { send: result.body };
    connected = result.status > 0;
    if (result.ok || result.problem.code === "sending" || !connected || result.status >= 500) continue;
    return result.problem.code === "not_found" ? { lost: true } : { unreachable: true };
  }
  return { unreachable: true };
}
