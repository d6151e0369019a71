// /login?next=PATH, and /login?window=1 in a window beside a page, which goes to the company's log-in at once.
import { html, useEffect, useState } from "../vendor/preact.js";
import { startCompanyLogIn } from "../company.js";
import { LoginForm } from "../login_form.js";
import { Busy, Page } from "../parts.js";
import { go } from "../router.js";
import { me } from "../session.js";
import { logInProblem } from "../words.js";

/** @param {{ query: URLSearchParams }} props */
export default function LoginPage({ query }) {
  const [error, setError] = useState("");
  const asked = query.get("next") ?? "";
  const next = asked.startsWith("/") ? asked : "/";
  /** @param {import("../session.js").WhoAmI} who */
  const enter = (who) => {
    // Nothing of the person who was logged in before may stay in memory.
    if (me.value !== null && me.value.identity !== who.identity) return location.assign(`/ui${next}`);
    me.value = who;
    return go(next, { replace: true });
  };
  const company = async () => {
    const problem = await startCompanyLogIn({ next });
    if (problem !== null) setError(logInProblem(problem));
  };
  return html`
    <div class="narrow">
      ${query.has("window") ? html`<${LogInWindow} again=${query.has("again")} />` : html`
        <${Page} title="Log in to Sidekey">
          ${error && html`<div class="banner bad" role="alert">${error}</div>`}
          <${LoginForm} onDone=${enter} onCompany=${company} />
        <//>
      `}
    </div>
  `;
}

/** @param {{ again: boolean }} props */
function LogInWindow({ again }) {
  const [error, setError] = useState("");
  useEffect(() => {
    startCompanyLogIn({ again, inWindow: true }).then((problem) => problem && setError(logInProblem(problem)));
  }, []);
  return html`
    <${Page} title="Log in to Sidekey">
      ${error ? html`<div class="banner bad" role="alert">${error}</div><p>Close this window, and try again.</p>` : html`<${Busy} />`}
    <//>
  `;
}
