// The presets that a person may send, and their last sends.
import { useCall } from "../api.js";
import { Search } from "../fields.js";
import { Empty, Loading, More, Page, Tile } from "../parts.js";
import { setQuery } from "../router.js";
import { mayChange } from "../session.js";
import { html } from "../vendor/preact.js";
import { List, Sends } from "./sends.js";

const LATEST = 5;

/** @typedef {import("../form_of_preset.js").Form} Form */

/** @param {{ query: URLSearchParams }} props */
export default function SendListPage({ query }) {
  const q = query.get("q") ?? "";
  const all = query.get("tab") === "sends";
  const { body, problem, reload } = useCall("/forms", { q, after: query.get("after") }, { every: 30_000 });
  /** @type {Form[]} */
  const forms = body?.items ?? [];
  const titles = Object.fromEntries(forms.map(({ id, title }) => [id, title]));
  if (all) {
    return html`<${Page} title="Your sends" crumbs=${html`<a href="/ui/send">Send</a> / Your sends`}><${Sends} query=${query} titles=${titles} goOn /><//>`;
  }
  const search = html`<${Search} label="Search" value=${q} onInput=${(/** @type {string} */ text) => setQuery({ q: text, after: null }, { replace: true })} />`;
  return html`
    <${Page} title="Send" actions=${search}>
      <${Loading} problem=${problem} body=${body} again=${reload} />
      ${body && forms.length === 0 && html`<${NoForms} q=${q} />`}
      <ul class="tiles">${forms.map(({ id, title, help, problem: isBroken }) => html`
        <li class="card" key=${id}>
          <${Tile} name=${title} />
          <div>
            <a href=${`/ui/send/${encodeURIComponent(id)}`}>${title}</a>
            ${isBroken ? html`<p class="error">! Cannot be sent now</p>` : help && html`<p class="help">${help}</p>`}
          </div>
        </li>
      `)}</ul>
      <${More} next=${body?.next} />
      ${q === "" && html`<${Latest} titles=${titles} />`}
    <//>
  `;
}

/** @param {{ q: string }} props */
function NoForms({ q }) {
  if (q !== "") return html`<${Empty}><p>Nothing matches. <a href="/ui/send">Clear the search</a></p><//>`;
  if (mayChange("editor")) return html`<${Empty}><p>No preset has a form yet.</p><p><a class="button primary" href="/ui/add/presets">Add preset</a></p><//>`;
  return html`<${Empty}><p>You may not send anything yet. Ask an admin for a preset.</p><//>`;
}

/** @param {{ titles: Record<string, string> }} props */
function Latest({ titles }) {
  const { body } = useCall("/sends", undefined, { every: 30_000 });
  if (!body || body.items.length === 0) return null;
  return html`
    <h2>Your last sends</h2>
    <${List} sends=${body.items.slice(0, LATEST)} titles=${titles} goOn empty="" />
    <p><a href="/ui/send?tab=sends">See all</a></p>
  `;
}
