// The form with which people log in, on its page and in the dialog over other pages.
import { html, useState } from "./vendor/preact.js";
import { post } from "./api.js";
import { Secret, Submit } from "./fields.js";
import { logInProblem } from "./words.js";

/** @param {{ onDone: (who: import("./session.js").WhoAmI) => void, children?: any }} props Children: further buttons. */
export function LoginForm({ onDone, children }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
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
    <form onSubmit=${submit}>
      <${Secret} label="Token" value=${token} onInput=${setToken} error=${error} autofocus />
      <div class="actions"><${Submit} busy=${busy}>Log in<//>${children}</div>
      <details class="help">
        <summary>Where do I get a token?</summary>
        <p>Ask an admin, or run: <code>sidekey token create NAME --role editor</code></p>
      </details>
    </form>
  `;
}
