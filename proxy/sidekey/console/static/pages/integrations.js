// /integrations: find an integration by any of its names, see its state, and change several at once.
import { Spark, count } from "../chart.js";
import { patch, remove, useCall } from "../api.js";
import { ask, askText } from "../dialog.js";
import { Check, Choice, Search } from "../fields.js";
import { Empty, Loading, More, Page, Problem, State, Tile, Time, announce } from "../parts.js";
import { hrefWith, setQuery } from "../router.js";
import { may, mayChange } from "../session.js";
import { exportAs, hostsOf, nameOf } from "../integration_parts.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { KINDS, STATES, kindName, refusalText, statusReason, stateOf, usageNote } from "../words.js";
import { ago } from "../time.js";

/** @typedef {import("../integration_parts.js").Item} Item */

const POLL = 30_000;
const FILTERS = ["q", "tag", "kind", "status"];
const STATUSES = ["ok", "expiring", "failing", "unusable"];

/** @param {{ query: URLSearchParams }} props */
export default function IntegrationsPage({ query }) {
  const [q, tag, kind, status] = FILTERS.map((name) => query.get(name) ?? "");
  const after = query.get("after");
  const { body, problem, reload } = useCall("/integrations", { q, tag, kind, status, after, include: "usage" }, { every: POLL });
  const [chosen, setChosen] = useState(/** @type {string[]} */ ([]));
  const [results, setResults] = useState(/** @type {{ id: string, text: string }[]} */ ([]));
  const canEdit = mayChange("editor");
  /** @type {Item[]} */
  const items = body?.items ?? [];
  const filtered = Boolean(q || tag || kind || status);

  useEffect(() => setChosen([]), [q, tag, kind, status, after]);

  /** @param {string} name */
  const filter = (name) => (/** @type {string} */ value) => setQuery({ [name]: value, after: null }, { replace: true });
  const selected = items.filter((item) => item.source === "store" && chosen.includes(item.id));
  /** @param {string} done @param {(item: Item) => Promise<import("../api.js").Result>} change */
  const changeEach = async (done, change) => {
    const texts = [];
    for (const item of selected) {
      const result = await change(item);
      texts.push({ id: item.id, text: result.ok ? done : refusalText(result.problem) });
    }
    setResults(texts);
    setChosen([]);
    announce(texts.map(({ id, text }) => `${id}: ${text}`).join(" "));
    reload();
  };

  const add = canEdit && html`<a class="button primary" href="/ui/add/integrations" data-key="n">Add integration</a>`;
  return html`
    <${Page} title="Integrations" actions=${add}>
      <div class="filters">
        <${Search} label="Search" example="Search anything: name, host, kind, provider, tag" value=${q} onInput=${filter("q")} />
        <${Choice} label="Status" value=${status} onInput=${filter("status")}
          options=${[["", "All"], ...STATUSES.map((status) => [status, STATES[status][1]])]} />
        <${Choice} label="Kind" value=${kind} onInput=${filter("kind")} options=${[["", "All"], ...Object.entries(KINDS)]} />
        <${Choice} label="Tag" value=${tag} onInput=${filter("tag")}
          options=${[["", "All"], ...new Set([...(tag ? [tag] : []), ...(body?.tags ?? [])])]} />
      </div>
      <${Loading} problem=${problem} body=${body} />
      ${results.length > 0 && html`<div class="banner quiet"><ul>${results.map(({ id, text }) => html`<li><bdi>${id}</bdi>: ${text}</li>`)}</ul></div>`}
      ${body && items.length === 0 && html`<${Empty}>
        ${filtered || after !== null
          ? html`<p>Nothing matches.</p><p><a href="/ui/integrations">Clear filters</a></p>`
          : may("editor")
          ? html`<p>Add your first integration: where requests go, and the credential that Sidekey adds.</p>${add && html`<p>${add}</p>`}`
          : html`<p>Nothing here yet. Ask an editor to add one.</p>`}
      <//>`}
      ${items.length > 0 && html`
        <${Table} items=${items} canEdit=${canEdit} chosen=${chosen} setChosen=${setChosen} />
        ${selected.length > 0 && html`<${Bulk} selected=${selected} tags=${body.tags} changeEach=${changeEach} />`}
        <${More} next=${body.next} />
      `}
    <//>
  `;
}

/** @param {{ items: Item[], canEdit: boolean, chosen: string[], setChosen: (ids: string[]) => void }} props */
function Table({ items, canEdit, chosen, setChosen }) {
  const able = items.filter((item) => item.source === "store").map((item) => item.id);
  const all = able.length > 0 && able.every((id) => chosen.includes(id));
  /** @param {string} id */
  const toggle = (id) => (/** @type {boolean} */ on) => setChosen(on ? [...chosen, id] : chosen.filter((other) => other !== id));
  return html`
    <div class="card integrations">
      <table class="list">
        <thead><tr>
          ${canEdit && html`<td><${Check} label=${hidden("All on this page")} value=${all} onInput=${(/** @type {boolean} */ on) => setChosen(on ? able : [])} /></td>`}
          <th scope="col">Name</th><th scope="col">Sends to</th><th scope="col">Kind</th><th scope="col">Status</th>
          <th scope="col">24 h</th><th scope="col">Last used</th><th scope="col">Tags</th>
        </tr></thead>
        <tbody>
          ${items.map((item) => html`
            <tr key=${`${item.id}:${item.source}`}>
              ${canEdit && html`<td class="choose">${item.source === "store" &&
                html`<${Check} label=${hidden(`Select ${nameOf(item)}`)} value=${chosen.includes(item.id)} onInput=${toggle(item.id)} />`}</td>`}
              <th scope="row"><div class="named"><${Tile} name=${nameOf(item)} /><div>
                <a class="clamped" href=${`/ui/integrations/${item.id}`}><bdi>${nameOf(item)}</bdi></a>
                <p>${item.title && html`<bdi>${item.id}</bdi>`}${item.title && item.source === "file" && " · "}${item.source === "file" && "Set in a config file"}</p>
              </div></div></th>
              <td data-label="Sends to"><span class="clamped">${hostsOf(item.hosts)}</span></td>
              <td data-label="Kind"><span>${kindName(item.kind)}</span></td>
              <td data-label="Status"><div><${State} ...${stateOf(item)} /><p class="clamped"><bdi>${statusReason(item) || usageNote(item.status, item.usage)}</bdi></p></div></td>
              <td data-label="24 h">${item.usage && html`<${Spark} points=${item.usage.points} label="Requests of 24 hours" />`}</td>
              <td data-label="Last used">${item.usage?.last_used_at && html`<${Time} at=${item.usage.last_used_at} text=${ago(item.usage.last_used_at)} />`}</td>
              <td data-label="Tags">${item.tags.length > 0 && html`<ul class="tags">
                ${item.tags.map((tag) => html`<li key=${tag}><a class="clamped" href=${hrefWith({ tag, after: null })}><bdi>${tag}</bdi></a></li>`)}
              </ul>`}</td>
            </tr>
          `)}
        </tbody>
      </table>
    </div>
  `;
}

/** @param {string} text A label for people who do not see the row. */
const hidden = (text) => html`<span class="hidden">${text}</span>`;

/** @param {{ selected: Item[], tags: string[],
 *   changeEach: (done: string, change: (item: Item) => Promise<import("../api.js").Result>) => Promise<void> }} props */
function Bulk({ selected, tags, changeEach }) {
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const names = selected.map(nameOf).join(", ");
  const addTag = async () => {
    const tag = await askText({ title: "Add a tag", text: html`<bdi>${names}</bdi>`, label: "Tag", yes: "Add tag", suggestions: tags });
    if (tag === null) return;
    await changeEach(`has the tag ${tag} now.`, (item) =>
      patch(`/integrations/${item.id}`, { tags: [...new Set([...item.tags, tag])] }, { etag: `"${item.version}"` }));
  };
  const removeAll = async () => {
    const text = html`<p><bdi>${names}</bdi>. Secrets are deleted too, and services that use ${selected.length === 1 ? "it" : "them"} are refused.</p>`;
    const sure = await ask({ title: `Delete ${count(selected.length, "integration")}?`, text, yes: "Delete", danger: true });
    if (sure) await changeEach("is deleted.", (item) => remove(`/integrations/${item.id}`, { etag: `"${item.version}"` }));
  };
  const exportAll = async () => setProblem(await exportAs("sidekey-integrations.yaml", selected.map(({ id }) => id)));
  return html`
    <div class="bulk card pad" role="group" aria-label="Selected integrations">
      <p><strong>${selected.length} selected</strong></p>
      <div class="buttons">
        <button type="button" class="button" onClick=${addTag}>Add tag</button>
        <button type="button" class="button danger" onClick=${removeAll}>Delete</button>
        <button type="button" class="button" onClick=${exportAll}>Export</button>
      </div>
      <p class="help">Secrets are not included in an export.</p>
      <${Problem} problem=${problem} />
    </div>
  `;
}
