// /login?next=PATH
import { html } from "../vendor/preact.js";
import { LoginForm } from "../login_form.js";
import { Page } from "../parts.js";
import { go } from "../router.js";
import { me } from "../session.js";

/** @param {{ query: URLSearchParams }} props */
export default function LoginPage({ query }) {
  const asked = query.get("next") ?? "";
  const next = asked.startsWith("/") ? asked : "/";
  /** @param {import("../session.js").WhoAmI} who */
  const enter = (who) => {
    // Nothing of the person who was logged in before may stay in memory.
    if (me.value !== null && me.value.identity !== who.identity) return location.assign(`/ui${next}`);
    me.value = who;
    return go(next, { replace: true });
  };
  return html`
    <div class="narrow">
      <${Page} title="Log in to Sidekey"><${LoginForm} onDone=${enter} /><//>
    </div>
  `;
}
