// /presets/ID: its request, who may send it, and its sends.
import { patch, remove, useCall } from "../api.js";
import { Chart } from "../chart.js";
import { ask } from "../dialog.js";
import { Choice } from "../fields.js";
import { Copy, Details, Loading, More, Page, Problem, State, Tabs, showNotice, announce } from "../parts.js";
import { TYPES } from "../preset_document.js";
import { go, setQuery } from "../router.js";
import { may, mayChange, confirmAndCall } from "../session.js";
import { html, useState } from "../vendor/preact.js";
import { personName } from "../words.js";
import { List } from "./sends.js";

/** @type {[string, string][]} */
const TABS = [["overview", "Overview"], ["sends", "Sends"]];
/** @type {[string, string][]} */
const PERIODS = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"]];
const EVERY = 30_000;

/** @param {{ params: { id: string }, query: URLSearchParams }} props */
export default function PresetPage({ params: { id }, query }) {
  const name = encodeURIComponent(id);
  const path = `/presets/${name}`;
  const { result, body: preset, problem } = useCall(path, undefined, { every: EVERY });
  const [failed, setFailed] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const canEdit = preset?.source === "store" && may("editor");
  const tab = query.get("tab") ?? "overview";
  const deletePreset = async () => {
    const text = "People and services that send it are refused from then on.";
    if (!(await ask({ title: `Delete ${preset.title || id}?`, text, yes: "Delete", danger: true }))) return;
    const deleted = await remove(path, { etag: result?.ok ? result.etag : null });
    if (!deleted.ok) return setFailed(deleted.problem);
    announce("Deleted.");
    go("/presets");
  };
  const heading = html`<bdi>${preset?.title || id}</bdi>${preset?.title && html` <span class="soft">${id}</span>`} ${preset && html`<${State} status=${preset.status} text=${preset.status === "failing" ? "Its integration is failing" : undefined} />`}`;
  return html`
    <${Page} title=${preset?.title || id} heading=${heading} crumbs=${html`<a href="/ui/presets">Presets</a> / ${id}`}
      actions=${preset && html`
        ${mayChange("send") && html`<a class="button primary" href=${`/ui/send/${name}`}>Send</a>`}
        ${canEdit && html`<a class="button" href=${`/ui/presets/${name}/edit`}>Edit</a>`}
        ${mayChange("editor") && html`<a class="button" href=${`/ui/add/presets?from=${name}`}>Duplicate</a>`}
        ${canEdit && html`<button type="button" class="button danger" onClick=${deletePreset}>Delete</button>`}
      `}>
      <${Problem} problem=${failed} />
      <${Loading} problem=${problem} body=${preset} />
      ${preset && html`
        ${preset.problem && html`<p class="banner bad" role="alert">${preset.problem}</p>`}
        <${Tabs} items=${TABS} value=${tab} />
        ${tab === "sends" ? html`<${Sends} id=${id} query=${query} />` : html`<${Overview} preset=${preset} period=${query.get("period") ?? "24h"} />`}
      `}
    <//>
  `;
}

/** @param {{ preset: any, period: string }} props */
function Overview({ preset, period }) {
  const { id, source, description, tags = [], integration, method = "POST", url, headers = {}, parameters = {}, body } = preset;
  const names = Object.keys(headers);
  return html`
    <div class="card pad">
      <dl class="pairs">
        ${description && html`<dt>Description</dt><dd><bdi>${description}</bdi></dd>`}
        <dt>Sends</dt><dd><code><bdi>${method} ${url}</bdi></code></dd>
        ${integration && html`<dt>With</dt><dd><a href=${`/ui/integrations/${encodeURIComponent(integration)}`}><bdi>${integration}</bdi></a></dd>`}
        ${names.length > 0 && html`<dt>Headers</dt><dd>${names.map((name) => html`<p><code><bdi>${name}: ${headers[name]}</bdi></code></p>`)}</dd>`}
        ${body && html`<dt>Body</dt><dd><pre><bdi>${bodyText(body)}</bdi></pre></dd>`}
        ${tags.length > 0 && html`<dt>Tags</dt><dd><ul class="tags">${tags.map((/** @type {string} */ tag) => html`<li><bdi>${tag}</bdi></li>`)}</ul></dd>`}
        ${source === "file" && html`<dt>Source</dt><dd>Set in a config file. Change it there, at <code>presets.${id}</code>.</dd>`}
      </dl>
    </div>
    ${may("admin") && html`<${Senders} id=${id} hasBody=${Boolean(body)} />`}
    ${!body && html`<p class="banner quiet">Senders cannot use this: it has no body to fill in.</p>`}
    ${body && html`<${Parameters} parameters=${parameters} />`}
    <${Usage} id=${id} period=${period} />
    <${Code} preset=${preset} />
  `;
}

/** @param {{ json?: unknown, form?: Record<string, unknown>, text?: string }} body */
function bodyText({ json, form, text }) {
  if (text !== undefined) return text;
  return form ? Object.entries(form).map(([name, value]) => `${name}: ${value}`).join("\n") : JSON.stringify(json, null, 2);
}

/** @typedef {{ name: string, source: string, version: number, presets: string[] }} Token */

/** @param {{ id: string, hasBody: boolean }} props Only admins may know who has which grants. */
function Senders({ id, hasBody }) {
  const { body, reload } = useCall("/tokens", { preset: id });
  const { body: all, reload: reloadAll } = useCall(mayChange("admin") ? "/tokens" : null);
  const [chosen, setChosen] = useState("");
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  if (!body) return null;
  const names = body.items.map((/** @type {Token} */ { name }) => name).join(", ") + (body.next ? " and more" : "");
  if (!hasBody) return names && html`<p class="banner">Cannot be sent by: <bdi>${names}</bdi>.</p>`;
  /** @type {Token[]} */
  const others = (all?.items ?? []).filter((/** @type {Token} */ { source, presets }) => source === "store" && presets && !presets.includes(id));
  const token = others.find(({ name }) => name === chosen);
  /** @param {Token} token */
  const allow = async ({ name, presets, version }) => {
    setProblem(null);
    const result = await confirmAndCall(`${name} may send ${id}.`, (confirmation) =>
      patch(`/tokens/${encodeURIComponent(name)}`, { presets: [...presets, id], ...confirmation }, { etag: `"${version}"` }));
    if (result === null) return;
    if (result.ok) showNotice(`${name} may send it.`);
    else setProblem(result.problem);
    reload();
    reloadAll();
  };
  return html`
    <section class="card pad" aria-labelledby="senders">
      <h2 id="senders">Who may send it</h2>
      <p>Editors and admins; ${names ? html`senders: <bdi>${names}</bdi>` : "no senders yet"}.</p>
      <${Problem} problem=${problem} />
      ${others.length > 0 && html`
        <div class="filters">
          <${Choice} label="Allow a sender" value=${token ? chosen : ""} onInput=${setChosen} options=${[["", "Choose…"], ...others.map(({ name }) => name)]} />
          <button type="button" class="button" disabled=${!token} onClick=${() => token && allow(token)}>Allow</button>
        </div>`}
      <p class="help">Change people and limits under <a href="/ui/access">Access</a>.</p>
    </section>
  `;
}

/** @param {{ parameters: Record<string, any> }} props */
function Parameters({ parameters }) {
  const rows = Object.entries(parameters);
  if (rows.length === 0) return html`<p>It has no parameters: each send is the same.</p>`;
  return html`
    <div class="card"><table class="list">
      <thead><tr><th scope="col">Parameter</th><th scope="col">Type</th><th scope="col">If it is empty</th><th scope="col">Allowed values</th></tr></thead>
      <tbody>${rows.map(([name, { type, title, help, default: value, enum: choices, max_length: length }]) => html`
        <tr>
          <th scope="row"><bdi>${title || name}</bdi>${title && html`<p>${name}</p>`}${help && html`<p><bdi>${help}</bdi></p>`}</th>
          <td data-label="Type">${TYPES[type] ?? type}</td>
          <td data-label="If it is empty">${value === undefined || value === null ? "It is required" : value === "" ? "It stays empty" : html`<bdi>${String(value)}</bdi>`}</td>
          <td data-label="Allowed values">${choices ? html`<bdi>${choices.join(", ")}</bdi>` : length && `At most ${length} characters`}</td>
        </tr>`)}</tbody>
    </table></div>
  `;
}

/** @param {{ id: string, period: string }} props */
function Usage({ id, period }) {
  const { body, problem } = useCall(`/presets/${encodeURIComponent(id)}/usage`, { period }, { every: EVERY });
  return html`
    <section class="card pad" aria-labelledby="usage">
      <h2 id="usage">Usage</h2>
      <${Tabs} items=${PERIODS} value=${period} name="period" label="Period" />
      <${Problem} problem=${problem} />
      ${body && html`<${Chart} points=${body.points} step=${body.step} from=${body.from} label="Requests" />`}
    </section>
  `;
}

/** @param {{ preset: any }} props How services send it: people need no code. */
function Code({ preset: { id, parameters = {}, body, content_type: contentType } }) {
  const type = body ? "application/json" : contentType || "application/json";
  const example = Object.fromEntries(Object.entries(parameters).map(([name, parameter]) => [name, parameter.example ?? parameter.default ?? parameter.enum?.[0] ?? name]));
  const data = body ? JSON.stringify(example) : "…";
  const text = `curl -H "Sidekey-Token: $TOKEN" -H "Content-Type: ${type}" \\\n  --data ${quoted(data)} http://127.0.0.1:8080/p/${id}`;
  return html`
    <${Details} summary="For developers">
      <p>A service sends it with the token of a caller that may use this preset. Use the host and port of your Sidekey.</p>
      <pre>${text}</pre>
      <${Copy} text=${text} label="Copy the command" />
    <//>
  `;
}

/** @param {string} text A word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** @param {{ id: string, query: URLSearchParams }} props */
function Sends({ id, query }) {
  const who = query.get("who") ?? "";
  const before = query.get("before");
  const { body, problem } = useCall("/sends", { preset: id, who, before }, { every: EVERY });
  const people = new Map([["", "Everybody"]]);
  for (const { who: name, label } of body?.items ?? []) people.set(name, personName({ name, label, identity: name }));
  if (!people.has(who)) people.set(who, who);
  return html`
    <div class="filters">
      <${Choice} label="Person" value=${who} options=${[...people]} onInput=${(/** @type {string} */ value) => setQuery({ who: value, before: null })} />
    </div>
    <${Loading} problem=${problem} body=${body} />
    ${body && html`<${List} sends=${body.items} titles=${null} people empty="Nobody has sent this yet." />`}
    <${More} name="before" next=${body?.next} text="Older sends" />
    <p class="help">Sidekey keeps results, not contents. Requests of services are counted under Usage.</p>
  `;
}
