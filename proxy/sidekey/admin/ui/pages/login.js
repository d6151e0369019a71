// /login?next=PATH
import { html } from "../vendor/preact.js";
import { LoginForm } from "../login_form.js";
import { Page } from "../parts.js";
import { go } from "../router.js";
import { me } from "../session.js";

/** @param {{ query: URLSearchParams }} props */
export default function LoginPage({ query }) {
  const next = query.get("next") ?? "";
  /** @param {import("../session.js").WhoAmI} who */
  const enter = (who) => {
    me.value = who;
    go(/^\/(?!\/)/.test(next) ? next : "/", { replace: true });
  };
  return html`
    <div class="narrow">
      <${Page} title="Log in to Sidekey"><${LoginForm} onDone=${enter} /><//>
    </div>
  `;
}
