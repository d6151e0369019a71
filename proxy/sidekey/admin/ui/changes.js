// The latest changes of an integration, as sentences.
import { useCall } from "./api.js";
import { Problem, Time } from "./parts.js";
import { textOf } from "./sentences.js";
import { may } from "./session.js";
import { html } from "./vendor/preact.js";

const MOST = 5;

/** @param {{ id: string, title: string }} props */
export function Changes({ id, title }) {
  const { body, problem } = useCall(`/integrations/${encodeURIComponent(id)}/activity`);
  /** @type {import("./sentences.js").Entry[]} */
  const entries = body?.items ?? [];
  return html`
    <section class="card pad" aria-labelledby="changes">
      <h2 id="changes">Changes</h2>
      <${Problem} problem=${problem} />
      <ul class="plain">${entries.slice(0, MOST).map((entry) => html`
        <li key=${entry.number}><bdi>${textOf({ ...entry, object: "integration", name: id, title })}</bdi> <span class="soft"><${Time} at=${entry.at} /></span></li>`)}</ul>
      ${may("admin") && html`<p><a href=${`/ui/activity?object=integration&name=${encodeURIComponent(id)}`}>All changes</a></p>`}
    </section>
  `;
}
