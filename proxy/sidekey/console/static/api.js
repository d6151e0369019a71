// The only module that fetches. Pages use only calls of the API that a script could make too.
import { useEffect, useState } from "./vendor/preact.js";
import { loadSession, logInAgain, store } from "./session.js";

/**
 * @typedef {import("./openapi.js").components["schemas"]} Schemas Bodies of the API, by name: tests generate the types.
 * @typedef {{ pointer: string, detail: string, line?: number, column?: number }} ItemError
 * @typedef {{ code: string, title: string, detail: string, errors: ItemError[], presets?: string[] }} Problem
 * @typedef {{ ok: true, status: number, body: any, etag: string | null, retryAfter: number | null }} Success
 * @typedef {{ ok: false, status: number, problem: Problem, retryAfter: number | null }} Failure
 * @typedef {Success | Failure} Result
 * @typedef {Record<string, string | number | boolean | null | undefined>} Query
 * @typedef {{ query?: Query, body?: any, headers?: Record<string, string>, etag?: string | null, signal?: AbortSignal, exact?: boolean }} Options
 *   `exact`: a number that JavaScript would change becomes a `JSON.rawJSON` object, which is sent back unchanged.
 */

/**
 * Call the API. Never rejects: a lost connection is a problem with the code `no_connection`.
 * When the session has ended, the person logs in again over the page, and the call is repeated.
 * @param {string} method
 * @param {string} path Below /api/v1, such as "/forms/welcome".
 * @param {Options} [options] A `body` that is a string is sent unchanged. `etag` becomes If-Match.
 * @returns {Promise<Result>}
 */
export async function call(method, path, options = {}) {
  const result = await request(method, path, options);
  // The session's own routes respond 401 to the person who is logging in.
  if (result.status !== 401 || /^\/session(?:\/|$)/.test(path)) return result;
  return (await logInAgain()) ? request(method, path, options) : result;
}

/** @param {string} path @param {Options} [options] */
export const get = (path, options) => call("GET", path, options);
/** @param {string} path @param {any} body @param {Options} [options] */
export const post = (path, body, options) => call("POST", path, { ...options, body });
/** @param {string} path @param {any} body @param {Options} [options] */
export const put = (path, body, options) => call("PUT", path, { ...options, body });
/** @param {string} path @param {any} body @param {Options} [options] */
export const patch = (path, body, options) => call("PATCH", path, { ...options, body });
/** @param {string} path @param {Options} [options] */
export const remove = (path, options) => call("DELETE", path, options);

/**
 * Load the body of a path for a page, again when path or query change, and every `every` milliseconds while the page
 * is visible. While a changed query loads, `body` is that of the previous query.
 * @param {string | null} path Null: no call.
 * @param {Query} [query]
 * @param {{ every?: number, exact?: boolean }} [options]
 * @returns {{ loading: boolean, result: Result | null, body: any, problem: Problem | null, reload: () => void }}
 */
export function useCall(path, query, { every, exact } = {}) {
  const key = path === null ? null : path + search(query);
  const [state, setState] = useState({ key: "", path: "", result: /** @type {Result | null} */ (null), body: undefined });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const controller = new AbortController();
    const { signal } = controller;
    let timer = 0;
    const load = async () => {
      const result = await get(path, { query, signal, exact });
      if (signal.aborted) return;
      setState((previous) => ({
        key: /** @type {string} */ (key),
        path,
        result,
        body: result.ok ? result.body : previous.path === path ? previous.body : undefined,
      }));
      // Do not ask a person again and again who has declined to log in.
      if (every && result.status !== 401) timer = window.setTimeout(loadIfVisible, every);
    };
    const loadIfVisible = () => {
      if (document.visibilityState === "visible") load();
      else document.addEventListener("visibilitychange", loadIfVisible, { once: true, signal });
    };
    load();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [key, turn, every]);
  const current = state.key === key ? state.result : null;
  return {
    loading: key !== null && current === null,
    result: current,
    body: state.path === path ? state.body : undefined,
    problem: current && !current.ok ? current.problem : null,
    reload: () => setTurn((previous) => previous + 1),
  };
}

/** @param {string} method @param {string} path @param {Options} options @returns {Promise<Result>} */
async function request(method, path, { query, body, headers, etag, signal, exact = false }) {
  /** @type {Record<string, string>} */
  const fields = { "Sidekey-Console": "1" };
  if (body !== undefined) fields["Content-Type"] = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  if (etag) fields["If-Match"] = etag;
  /** @type {Response} */
  let response;
  let text = "";
  try {
    response = await fetch(`/api/v1${path}${search(query)}`, {
      method,
      headers: { ...fields, ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
      cache: "no-store",
      redirect: "error",
      signal,
    });
    text = await response.text();
  } catch {
    return { ok: false, status: 0, problem: NO_CONNECTION, retryAfter: null };
  }
  const { status } = response;
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const common = { status, retryAfter: Number.isNaN(retryAfter) ? null : retryAfter };
  const isJson = /^application\/(?:[\w.-]+\+)?json\b/.test(response.headers.get("Content-Type") ?? "");
  const content = isJson && text !== "" ? parse(text, exact) : text || null;
  if (response.ok && content !== undefined) {
    // A change may show that the store is back.
    if (method !== "GET" && store.value === "unavailable") loadSession();
    return { ok: true, body: content, etag: response.headers.get("ETag"), ...common };
  }
  const problem = isJson && content?.code ? { errors: [], ...content } : unexpected(status);
  if (problem.code === "store_unavailable") store.value = "unavailable";
  return { ok: false, problem, ...common };
}

/** @type {Problem} */
const NO_CONNECTION = {
  code: "no_connection",
  title: "No connection to Sidekey",
  detail: "Check your network. What you typed is still here.",
  errors: [],
};

/** @param {number} status @returns {Problem} The problem of a response that is not from the API, such as a gateway's page. */
function unexpected(status) {
  const detail = "The response is not from Sidekey's API. Something between this page and Sidekey may be broken.";
  return { code: "unexpected", title: `Unexpected response (${status})`, detail, errors: [] };
}

/** @param {Query} [query] Return the query string, without absent and empty values. */
function search(query) {
  const fields = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(fields.map(([name, value]) => [name, String(value)])).toString();
  return text === "" ? "" : `?${text}`;
}

/**
 * Parse JSON. A number that JavaScript would change, such as 1.10 or one with 20 digits, stays text.
 * @param {string} text @param {boolean} exact
 * @returns {any} Undefined if it is not JSON.
 */
function parse(text, exact) {
  /** @param {string} _ @param {any} value @param {{ source?: string }} [context] */
  const keep = (_, value, context) => {
    if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
    return exact ? /** @type {any} */ (JSON).rawJSON(context.source) : context.source;
  };
  try {
    return JSON.parse(text, keep);
  } catch {
    return undefined;
  }
}
