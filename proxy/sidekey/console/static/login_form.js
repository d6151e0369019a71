// The log-in form, on its page and in the dialog over other pages.
import { html, useState } from "./vendor/preact.js";
import { post } from "./api.js";
import { Secret, Submit } from "./fields.js";
import { openLogInWindow, useLogInWindow } from "./login_window.js";
import { oidc, oidcProblem } from "./session.js";
import { logInProblem, sentence } from "./words.js";

/** @param {{ onDone: (who: import("./session.js").WhoAmI) => void, onCompany?: () => void, children?: any }} props
 * `onCompany` begins the company's log-in, by default in a window beside this page. Children: further buttons. */
export function LoginForm({ onDone, onCompany = () => openLogInWindow(), children }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  useLogInWindow(onDone);
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    if (token.trim() === "") return setError("Enter a token.");
    setBusy(true);
    const result = await post("/session", { token: token.trim() });
    setBusy(false);
    return result.ok ? onDone(result.body) : setError(logInProblem(result.problem));
  };
  return html`
    ${oidc.value && html`
      <button type="button" class="button primary" onClick=${onCompany}>Log in with your company account</button>
      <p class="or">or with a token</p>
    `}
    ${oidcProblem.value && html`
      <div class="banner bad" role="alert">
        <p><strong>The company log-in does not work now.</strong> ${sentence(oidcProblem.value)} Log in with a token.</p>
        <button type="button" class="button" onClick=${onCompany}>Try your company account again</button>
      </div>
    `}
    <form onSubmit=${submit}>
      <${Secret} label="Token" value=${token} onInput=${setToken} error=${error} autofocus=${!oidc.value} />
      <div class="actions"><${Submit} busy=${busy}>Log in<//>${children}</div>
      <details class="help">
        <summary>Where do I get a token?</summary>
        <p>Ask your admin for a token.</p>
        <p>Admins: run <code>sidekey token create NAME --role editor</code></p>
      </details>
    </form>
  `;
}
