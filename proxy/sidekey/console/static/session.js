// The logged-in person and their permissions. The server decides: pages only hide what it would refuse.
import { html, signal } from "./vendor/preact.js";
import { get, remove } from "./api.js";
import { openLogInWindow, useLogInWindow } from "./login_window.js";
import { Dialog, askText, showDialog } from "./dialog.js";
import { LoginForm } from "./login_form.js";
import { go, leaveSilently, confirmLeave } from "./router.js";

/** @typedef {import("./api.js").Schemas["WhoAmI"]} WhoAmI */

/** @type {import("./vendor/preact.js").Signal<WhoAmI | null>} */
export const me = signal(null);
/** @type {import("./vendor/preact.js").Signal<"ready" | "absent" | "unavailable">} */
export const store = signal("ready");
/** True if people can log in with their company account. */
export const oidc = signal(false);
/** Why log-ins with the company account do not work now; empty: they work, or are not configured. */
export const oidcProblem = signal("");

/** @type {Record<string, string[]>} */
const PERMISSIONS = {
  sender: ["send"],
  viewer: ["viewer"],
  editor: ["send", "viewer", "editor"],
  admin: ["send", "viewer", "editor", "admin"],
};

/** @param {string} permission Return True if the role of this person has the permission. */
export function may(permission) {
  return me.value !== null && (PERMISSIONS[me.value.role] ?? []).includes(permission);
}

/** @param {string} permission Return True if the role of this person has the permission, and there is a store to change. */
export function mayChange(permission) {
  return may(permission) && store.value !== "absent";
}

const DROPPED = "sidekey-dropped";

/**
 * Fetch the session. If another person has logged in, such as in another tab, discard what was typed here.
 * @returns {Promise<import("./api.js").Problem | null>}
 */
export async function loadSession() {
  const result = await get("/session");
  if (!result.ok) return result.problem;
  store.value = result.body.store;
  oidc.value = result.body.oidc;
  oidcProblem.value = result.body.oidc_problem ?? "";
  const { who } = result.body;
  if (who === null) return null;
  if (me.value !== null && me.value.identity !== who.identity) return reloadForOtherPerson();
  me.value = who;
  return null;
}

/** @returns {Promise<never>} Reload, because what was typed belongs to another person. No other reload happens without a click. */
function reloadForOtherPerson() {
  sessionStorage.setItem(DROPPED, "1");
  leaveSilently();
  location.reload();
  return new Promise(() => {});
}

/** @param {WhoAmI} who @param {string} next Open a path below /ui after a log-in. */
export function completeLogIn(who, next) {
  // Nothing of the person who was logged in before may stay in memory.
  if (me.value !== null && me.value.identity !== who.identity) return location.replace(`/ui${next}`);
  me.value = who;
  return go(next, { replace: true });
}

/** Return True if `reloadForOtherPerson` loaded this page, and only in the first call. */
export function wasReloadedForOtherPerson() {
  const wasReloaded = sessionStorage.getItem(DROPPED) !== null;
  sessionStorage.removeItem(DROPPED);
  return wasReloaded;
}

/** End the session and load the log-in page, so that nothing of this person stays in memory. */
export async function logOut() {
  if (!(await confirmLeave())) return null;
  const result = await remove("/session");
  if (!result.ok && result.status !== 401) return result.problem;
  leaveSilently();
  location.assign("/ui/login");
  return null;
}

/** @type {Promise<boolean> | null} */
let logInDialog = null;

/** @returns {Promise<boolean>} Log in over the page. False: the person closed the dialog. */
export function logInAgain() {
  logInDialog ??= askToLogIn().finally(() => {
    logInDialog = null;
  });
  return logInDialog;
}

async function askToLogIn() {
  const who = await showDialog(
    (close) => html`
      <${Dialog} title="Log in again" onClose=${() => close(null)}>
        <p>Your session has ended. Log in again: what you typed is still here.</p>
        <${LoginForm} onDone=${close}>
          <button type="button" class="button" onClick=${() => close(null)}>Not now</button>
        <//>
      <//>
    `,
  );
  if (who === null) return false;
  if (me.value !== null && me.value.identity !== who.identity) return reloadForOtherPerson();
  me.value = who;
  return true;
}

/**
 * Have the person confirm, then call, so that nobody can change access with an unattended browser. Null: cancelled.
 * @param {string} why A sentence that says what the call does.
 * @param {(confirmation: { own_token?: string }) => Promise<import("./api.js").Result>} call
 * @returns {Promise<import("./api.js").Result | null>}
 */
export async function confirmAndCall(why, call) {
  // A person of the company has no token.
  if (me.value?.identity.startsWith("oidc:")) {
    const confirmation = await showDialog((close) => html`<${ConfirmByLogIn} why=${why} close=${close} />`);
    return confirmation && call(confirmation);
  }
  /** @type {import("./api.js").Result | null} */
  let result = null;
  const check = async (/** @type {string} */ token) => {
    result = await call({ own_token: token });
    return !result.ok && result.problem.code === "forbidden" ? "This is not the token that you are logged in with. Nothing was changed." : "";
  };
  const text = html`${why} To prove that it is you, enter the token that you log in with.`;
  const token = await askText({ title: "Confirm", text, label: "Your own token", yes: "Confirm", isSecret: true, check });
  return token === null ? null : result;
}

/** @param {{ why: string, close: (result: {} | null) => void }} props */
function ConfirmByLogIn({ why, close }) {
  useLogInWindow((who) => (who.identity === me.value?.identity ? close({}) : reloadForOtherPerson()));
  return html`
    <${Dialog} title="Confirm" onClose=${() => close(null)}>
      <p>${why}</p>
      <p>Confirm it is you.</p>
      <div class="actions">
        <button type="button" class="button primary" onClick=${() => openLogInWindow(true)}>Log in again</button>
        <button type="button" class="button" onClick=${() => close(null)}>Cancel</button>
      </div>
    <//>
  `;
}
