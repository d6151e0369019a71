// /callback: the issuer has redirected the browser here.
import { html, useEffect, useState } from "../vendor/preact.js";
import { post } from "../api.js";
import { NEXT_PATH_KEY, announceLogIn } from "../login_window.js";
import { Page } from "../parts.js";
import { go } from "../router.js";
import { completeLogIn, me } from "../session.js";
import { logInProblem } from "../words.js";

// Code and state must not stay in the address bar and the history.
const redirect = Object.fromEntries(new URLSearchParams(location.search));
history.replaceState(history.state, "", location.pathname);

export default function CallbackPage() {
  const [error, setError] = useState("");
  const [isDone, setDone] = useState(false);
  const next = sessionStorage.getItem(NEXT_PATH_KEY) ?? "/";
  useEffect(() => {
    finish();
  }, []);

  async function finish() {
    const { error: refused, code, state, iss } = redirect;
    // The codes of RFC 6749, 4.1.2.1.
    const reason = /^[a-z_]{1,40}$/.test(refused) ? ` (${refused})` : "";
    if (refused !== undefined) return setError(`The company log-in failed: the company did not let you in${reason}.`);
    // Such as after a reload.
    if (!(code && state) && me.value !== null) return go("/", { replace: true });
    if (!code || !state) return setError("The company log-in failed: this page needs the company's redirect: start again.");
    const result = await post("/session/oidc", { code, state, iss });
    if (!result.ok) return setError(logInProblem(result.problem));
    if (next !== "") {
      sessionStorage.removeItem(NEXT_PATH_KEY);
      return completeLogIn(result.body, next);
    }
    announceLogIn();
    return setDone(true);
  }

  if (isDone) return html`<${Page} title="Logged in"><p>Logged in. You can close this window.</p><//>`;
  if (error === "") return html`<${Page} title="Logging you in…" />`;
  return html`
    <${Page} title="The log-in did not succeed">
      <div class="banner bad" role="alert">${error}</div>
      <p>${next === "" ? "Close this window, and try again." : html`<a href="/ui/login">Start again</a>`}</p>
    <//>
  `;
}
