// Log-in with the company account in this window.
import { post } from "./api.js";
import { announceLogIn } from "./login_window.js";

const NEXT = "sidekey-next";
const WINDOW = "sidekey-window";

/**
 * Go to the issuer. The page `/callback` finishes the log-in.
 * @param {{ next?: string, again?: boolean, inWindow?: boolean }} options `next` is the path below /ui to open then.
 * `again`: the issuer must ask the person, although it knows them.
 * @returns {Promise<import("./api.js").Problem | null>}
 */
export async function startCompanyLogIn({ next = "/", again = false, inWindow = false }) {
  const result = await post("/session/oidc/start", { again });
  if (!result.ok) return result.problem;
  sessionStorage.setItem(NEXT, next);
  // A window inherits the storage of the one that opened it.
  sessionStorage.setItem(WINDOW, inWindow ? "1" : "");
  location.assign(result.body.url);
  return null;
}

/**
 * Finish the log-in with the parameters of the issuer's redirect.
 * @param {URLSearchParams} query
 * @returns {Promise<{ problem: import("./api.js").Problem } | { who: import("./session.js").WhoAmI, next: string | null }>}
 *   `next` is null in a window beside a page, which goes on by itself.
 */
export async function finishCompanyLogIn(query) {
  const error = query.get("error");
  if (error !== null) return { problem: refusal(`the company did not let you in${codeIn(error)}`) };
  if (!query.has("code") || !query.has("state")) return { problem: refusal("this page needs the company's redirect: start again") };
  const fields = ["code", "state", "iss"].map((name) => [name, query.get(name)]);
  const result = await post("/session/oidc", Object.fromEntries(fields.filter(([, value]) => value !== null)));
  if (!result.ok) return { problem: result.problem };
  if (isWindow()) {
    announceLogIn();
    return { who: result.body, next: null };
  }
  const next = sessionStorage.getItem(NEXT) ?? "/";
  sessionStorage.removeItem(NEXT);
  return { who: result.body, next };
}

/** Return True in a window that was opened beside a page. */
export function isWindow() {
  return sessionStorage.getItem(WINDOW) === "1";
}

/** @param {string} detail @returns {import("./api.js").Problem} */
function refusal(detail) {
  return { code: "oidc_failed", title: "", detail, errors: [] };
}

/** @param {string} error A code of RFC 6749 4.1.2.1, or anything else. */
function codeIn(error) {
  return /^[a-z_]{1,40}$/.test(error) ? ` (${error})` : "";
}
