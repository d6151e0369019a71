// /presets: requests that people and services send without knowing the credential.
import { useCall } from "../api.js";
import { Choice, Search } from "../fields.js";
import { Empty, Loading, More, Page, State } from "../parts.js";
import { hrefWith, setQuery } from "../router.js";
import { mayChange } from "../session.js";
import { html } from "../vendor/preact.js";
import { STATES } from "../words.js";

/** @typedef {import("../api.js").Schemas["PresetItem"]} Item */

/** @type {[string, string][]} */
const STATUSES = [["", "All"], ...["ok", "failing", "unusable"].map((status) => /** @type {[string, string]} */ ([status, STATES[status][1]]))];
const FILTERS = ["q", "status", "tag", "integration"];

/** @param {{ query: URLSearchParams }} props */
export default function PresetsPage({ query }) {
  const filter = Object.fromEntries(FILTERS.map((key) => [key, query.get(key) ?? ""]));
  const { body, problem } = useCall("/presets", { ...filter, after: query.get("after") }, { every: 30_000 });
  const isFiltered = FILTERS.some((key) => filter[key] !== "");
  /** @param {string} key */
  const set = (key) => (/** @type {string} */ value) => setQuery({ [key]: value, after: null }, { replace: key === "q" });
  const add = mayChange("editor") && html`<a class="button primary" href="/ui/add/presets" data-key="n">Add preset</a>`;
  return html`
    <${Page} title="Presets" actions=${add}>
      <div class="filters">
        <${Search} label="Search: name, description, integration, tag" value=${filter.q} onInput=${set("q")} />
        <${Choice} label="Status" value=${filter.status} onInput=${set("status")} options=${STATUSES} />
      </div>
      ${["tag", "integration"].filter((key) => filter[key] !== "").map((key) => html`
        <p>Only with the ${key} <bdi>${filter[key]}</bdi>. <a href=${hrefWith({ [key]: null, after: null })}>Show all</a></p>`)}
      <${Loading} problem=${problem} body=${body} />
      ${body?.items.length > 0 && html`<${Table} items=${body.items} />`}
      ${body?.items.length === 0 && html`<${Empty}>
        ${isFiltered
          ? html`<p>Nothing matches. <a href="/ui/presets">Clear filters</a></p>`
          : html`<p>A preset is a request that people and services can send without its credential.</p>${add}`}
      <//>`}
      <${More} next=${body?.next} />
    <//>
  `;
}

/** @param {{ items: Item[] }} props */
function Table({ items }) {
  return html`
    <div class="card"><table class="list">
      <thead><tr><th scope="col">Title</th><th scope="col">Sends</th><th scope="col">With</th><th scope="col">Status</th></tr></thead>
      <tbody>${items.map(({ id, title, takes, source, status, problem, tags, integration, method, url }) => html`
        <tr key=${source + id}>
          <th scope="row">
            <a href=${`/ui/presets/${encodeURIComponent(id)}`}><bdi>${title || id}</bdi></a>
            ${title && title !== id && html`<p>${id}</p>`}
            ${tags.length > 0 && html`<ul class="tags">${tags.map((tag) => html`<li><a href=${hrefWith({ tag, after: null })}><bdi>${tag}</bdi></a></li>`)}</ul>`}
          </th>
          <td data-label="Sends"><code><bdi>${method} ${url}</bdi></code></td>
          <td data-label="With">${integration && html`<a href=${`/ui/integrations/${encodeURIComponent(integration)}`}><bdi>${integration}</bdi></a>`}</td>
          <td data-label="Status">
            <${State} status=${status} />
            ${problem && html`<p>${problem}</p>`}
            ${takes === "payload" && html`<p>For services: it has no body to fill in.</p>`}
            ${source === "file" && html`<p>Set in a config file.</p>`}
          </td>
        </tr>
      `)}</tbody>
    </table></div>
  `;
}
