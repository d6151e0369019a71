// /callback: the issuer has redirected the browser here.
import { html, useEffect, useState } from "../vendor/preact.js";
import { finishCompanyLogIn, isWindow } from "../company.js";
import { Page } from "../parts.js";
import { go } from "../router.js";
import { me } from "../session.js";
import { logInProblem } from "../words.js";

// Code and state must not stay in the address bar and the history.
const redirect = new URLSearchParams(location.search);
history.replaceState(history.state, "", location.pathname);

/** The page. */
export default function CallbackPage() {
  const [error, setError] = useState("");
  const [isDone, setDone] = useState(false);
  useEffect(() => {
    finish();
  }, []);

  async function finish() {
    const result = await finishCompanyLogIn(redirect);
    if ("problem" in result) return setError(logInProblem(result.problem));
    if (result.next === null) return setDone(true);
    // Nothing of the person who was logged in before may stay in memory.
    if (me.value !== null && me.value.identity !== result.who.identity) return location.replace(`/ui${result.next}`);
    me.value = result.who;
    return go(result.next, { replace: true });
  }

  if (isDone) return html`<${Page} title="Logged in"><p>Logged in. You can close this window.</p><//>`;
  if (error === "") return html`<${Page} title="Logging you in…" />`;
  return html`
    <${Page} title="You are not logged in">
      <div class="banner bad" role="alert">${error}</div>
      <p>${isWindow() ? "Close this window, and try again." : html`<a href="/ui/login">Start again</a>`}</p>
    <//>
  `;
}
