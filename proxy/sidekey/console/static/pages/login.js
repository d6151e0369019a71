// /login?next=PATH, and /login?window=1 in a window beside a page, which opens the company's log-in at once.
import { html, useEffect, useState } from "../vendor/preact.js";
import { post } from "../api.js";
import { LoginForm } from "../login_form.js";
import { NEXT_PATH_KEY } from "../login_window.js";
import { Busy, Page } from "../parts.js";
import { completeLogIn } from "../session.js";
import { logInProblem } from "../words.js";

/** @param {{ query: URLSearchParams }} props */
export default function LoginPage({ query }) {
  const [error, setError] = useState("");
  const isWindow = query.has("window");
  const asked = query.get("next") ?? "";
  const next = asked.startsWith("/") ? asked : "/";
  const company = async () => {
    const result = await post("/session/oidc/start", { again: query.has("again") });
    if (!result.ok) return setError(logInProblem(result.problem));
    // A window inherits the storage of the one that opened it.
    sessionStorage.setItem(NEXT_PATH_KEY, isWindow ? "" : next);
    return location.assign(result.body.url);
  };
  useEffect(() => {
    if (isWindow) company();
  }, []);
  const form = html`<${LoginForm} onDone=${(/** @type {import("../session.js").WhoAmI} */ who) => completeLogIn(who, next)} onCompany=${company} />`;
  return html`
    <div class="narrow">
      <${Page} title="Log in to Sidekey">
        ${error && html`<div class="banner bad" role="alert">${error}</div>`}
        ${isWindow ? (error ? html`<p>Close this window, and try again.</p>` : html`<${Busy} />`) : form}
      <//>
    </div>
  `;
}
