// /integrations/ID: its problem and the remedy, then usage, failures, presets and callers, and changes.
import { get, post, remove, useCall } from "../api.js";
import { Chart, count } from "../chart.js";
import { ask } from "../dialog.js";
import { Submit, Text, errorsAt } from "../fields.js";
import { TestBanner, exportAs, nameOf, testedBeforeSaving, warningsOnSaving, withCode } from "../integration_parts.js";
import { Copy, Details, Loading, More, Page, Problem, State, Tabs, Tile, Time, showNotice, announce } from "../parts.js";
import { go } from "../router.js";
import { textOf } from "../sentences.js";
import { may } from "../session.js";
import { day, number } from "../time.js";
import { html, useState } from "../vendor/preact.js";
import { adviceFor, failureText, isRejected, kindName, latencyText, personName, resultText, sentence, statusReason, stateOf, testWords, usageNote } from "../words.js";

/** @typedef {import("../integration_parts.js").Item & { auth?: any, add?: any, test?: { method?: string, path?: string } }} Integration */
/** @typedef {import("../api.js").Schemas["Failure"]} Failure */
/** @typedef {import("../api.js").Schemas["Usage"]} Usage */
/** @typedef {import("../sentences.js").Entry} Entry */

const POLL = 30_000;
const MAX_CHANGES = 5;
/** @type {[string, string][]} */
const PERIODS = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"]];

/** @param {{ params: { id: string }, query: URLSearchParams }} props */
export default function IntegrationPage({ params: { id }, query }) {
  const path = `/integrations/${encodeURIComponent(id)}`;
  const period = query.get("period") ?? "24h";
  const before = query.get("before");
  const { body, result, problem, reload } = useCall(path, {}, { every: POLL });
  const usage = useCall(`${path}/usage`, { period }, { every: POLL });
  const failures = useCall(`${path}/failures`, { before }, { every: POLL });
  const activity = useCall(body?.source === "store" ? `${path}/activity` : null);
  const reloadAll = () => [{ reload }, usage, failures, activity].forEach((call) => call.reload());
  const crumbs = html`<a href="/ui/integrations">Integrations</a> / <bdi>${body ? nameOf(body) : id}</bdi>`;
  if (!body) {
    return html`<${Page} title=${id} crumbs=${crumbs}>${problem?.code === "not_found"
      ? html`<p>No integration has this ID. Go to <a href="/ui/integrations">Integrations</a>.</p>`
      : html`<${Loading} problem=${problem} />`}<//>`;
  }
  /** @type {Integration} */
  const integration = { ...body, tags: body.tags ?? [] };
  const canEdit = integration.source === "store" && may("editor");
  const etag = result?.ok ? result.etag : null;
  const name = nameOf(integration);
  const heading = html`<span class="named"><${Tile} name=${name} /><bdi>${name}</bdi></span>`;
  return html`
    <${Page} title=${name} heading=${heading} crumbs=${crumbs}>
      <${Verdict} integration=${integration} usage=${usage.body} failure=${failures.body?.items[0]} entries=${activity.body?.items} canEdit=${canEdit} path=${path} reload=${reloadAll} />
      <${About} integration=${integration} canEdit=${canEdit} etag=${etag} path=${path} />
      <${Problem} problem=${problem} />
      <section class="card pad" aria-labelledby="usage">
        <h2 id="usage">Usage</h2>
        <${Tabs} items=${PERIODS} value=${period} name="period" label="Period" />
        ${usage.body ? html`<${UsageOf} usage=${usage.body} />` : html`<${Loading} problem=${usage.problem} />`}
      </section>
      <section class="card pad" aria-labelledby="failures">
        <h2 id="failures">Failures</h2>
        ${failures.body ? html`<${Failures} page=${failures.body} />` : html`<${Loading} problem=${failures.problem} />`}
      </section>
      <${Users} id=${id} />
      ${integration.source === "store" && html`<${Changes} id=${id} title=${name} entries=${activity.body?.items} problem=${activity.problem} />`}
      <${Developers} id=${id} test=${integration.test} />
      <${Details} summary="Explain a URL"><${Explain} path=${path} /><//>
    <//>
  `;
}

/** @param {{ integration: Integration, usage: Usage | undefined, failure: Failure | undefined, entries: Entry[] | undefined, canEdit: boolean,
 *   path: string, reload: () => void }} props The first lines: the problem, since when, and the remedy. */
function Verdict({ integration, usage, failure, entries, canEdit, path, reload }) {
  const [tested, setTested] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const [busy, setBusy] = useState(false);
  const isFailing = integration.status === "failing";
  // The result of a test says more.
  const testedAt = entries?.find(({ action, outcome }) => action === "test" && outcome === "ok")?.at ?? "";
  const hasWorked = testedAt !== "" || Boolean(usage?.points.some((point) => point.requests > point.failed));
  const advice = isFailing && failure && !tested ? adviceFor(failure, hasWorked) : "";
  const hasTest = integration.source === "file" || Boolean(integration.test);
  const edit = `/ui${path}/edit`;
  const test = async () => {
    setBusy(true);
    const result = await post(`${path}/test`, undefined);
    setBusy(false);
    setTested(result.ok ? result.body : null);
    setProblem(result.ok ? null : result.problem);
    if (result.ok) announce(testWords(result.body).text);
    reload();
  };
  const note = usageNote(integration.status, usage && { ...usage, points: usage.points.map((point) => [point.requests, point.failed]) });
  const lastSuccess = [testedAt, testedBeforeSaving(integration)].sort()[1];
  // A test that succeeded since then shows that the host is reached.
  const warnings = testedAt > (integration.updated_at ?? "") ? [] : warningsOnSaving(integration);
  const reason = statusReason(integration, failure, lastSuccess) || (note && `${note}.`);
  return html`
    <div class="verdict">
      <p><${State} ...${stateOf(integration)} /> ${reason}</p>
      ${warnings.length > 0 && html`<div class="banner">${warnings.map((warning) => html`<p>${withCode(sentence(warning))}</p>`)}</div>`}
      ${advice && html`<p>${advice}${" "}
        ${isRejected(/** @type {Failure} */ (failure)) && (canEdit ? html`<a href=${edit}>Replace the secret</a>` : integration.source === "store" && "Ask an editor to replace it.")}
      </p>`}
      ${integration.status === "expiring" && canEdit && html`<p><a href=${edit}>Replace the certificate</a></p>`}
      ${integration.source === "file" && html`<p class="soft">Set in a config file. Change it there.</p>`}
      <div class="actions">
        ${hasTest && html`<button type="button" class="button" aria-disabled=${busy ? "true" : undefined} onClick=${() => busy || test()}>Test integration</button>`}
        ${!hasTest && canEdit && html`<a class="button" href=${`${edit}?focus=test`}>Add a test</a>`}
        ${canEdit && html`<a class="button" href=${edit}>Edit</a>`}
      </div>
      ${tested && html`<${TestBanner} result=${tested} hasWorked=${hasWorked}>${!tested.ok && canEdit && html`<a href=${edit}>Edit the integration</a>`}<//>`}
      <${Problem} problem=${problem} />
    </div>
  `;
}

/** @param {{ integration: Integration, canEdit: boolean, etag: string | null, path: string }} props */
function About({ integration, canEdit, etag, path }) {
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const { id, description, tags, kind, hosts, base, expires_at: expires, auth, add } = integration;
  const logIn = auth?.token_endpoint ?? auth?.login_endpoint;
  // The host of the log-in is shown below, unless requests go there by default.
  const others = hosts.filter((host) => [base, logIn].every((url) => !url || host !== new URL(url).hostname));
  const headers = Object.entries({ ...auth?.headers, ...add?.headers });
  const exportIt = async () => setProblem(await exportAs(`${id}.yaml`, [id]));
  const deleteIt = async () => {
    const used = await get("/presets", { query: { integration: id } });
    const presets = used.ok ? used.body.items.map((/** @type {{ id: string }} */ preset) => preset.id).join(", ") : "";
    const text = html`<p>Its secrets are deleted too, and services that use it are refused.</p>${presets && html`<p>Presets use it: <bdi>${presets}</bdi>.</p>`}`;
    const sure = await ask({ title: `Delete ${nameOf(integration)}?`, text, yes: "Delete", danger: true });
    if (!sure) return undefined;
    const result = await remove(path, { etag });
    if (!result.ok) return setProblem(result.problem);
    showNotice("Deleted.");
    return go("/integrations");
  };
  return html`
    <section class="card pad" aria-label="About">
      <dl class="pairs">
        <dt>ID</dt><dd><code>${id}</code> <${Copy} text=${id} label="Copy" /></dd>
        ${description && html`<dt>Description</dt><dd><bdi>${description}</bdi></dd>`}
        <dt>Kind</dt><dd>${kindName(kind)}</dd>
        ${hosts.length > 0 && html`<dt>Sends to</dt><dd>${[...(base ? [base] : []), ...others].map((target, index) => html`${index > 0 && ", "}<code><bdi>${target}</bdi></code>`)}</dd>`}
        ${logIn && html`<dt>Logs in at</dt><dd><code><bdi>${logIn}</bdi></code></dd>`}
        ${headers.map(([name, value]) => html`<dt>Header</dt><dd>${typeof value === "string" ? html`<code><bdi>${name}: ${value}</bdi></code> (public)` : html`<code><bdi>${name}</bdi></code> (secret)`}</dd>`)}
        ${expires && html`<dt>Certificate</dt><dd>until <${Time} at=${expires} text=${day(expires)} />
          ${canEdit && html`${" "}<a href=${`/ui${path}/edit`}>Replace</a>`}</dd>`}
        ${tags.length > 0 && html`<dt>Tags</dt><dd><ul class="tags">${tags.map((tag) => html`<li key=${tag}>
          <a href=${`/ui/integrations?tag=${encodeURIComponent(tag)}`}><bdi>${tag}</bdi></a></li>`)}</ul></dd>`}
      </dl>
      ${canEdit && html`<${Details} summary="More: duplicate, export, delete"><div class="actions">
        <a class="button" href=${`/ui/add/integrations/${kind}?from=${id}`}>Duplicate</a>
        <button type="button" class="button" onClick=${exportIt}>Export without secrets</button>
        <button type="button" class="button danger" onClick=${deleteIt}>Delete</button>
      </div><//>`}
      <${Problem} problem=${problem} />
      ${problem?.presets && html`<p>Presets use it: ${problem.presets.map((preset) => html`<a href=${`/ui/presets/${preset}`}>${preset}</a> `)}</p>`}
    </section>
  `;
}

/** @param {{ usage: Usage }} props */
function UsageOf({ usage }) {
  const total = usage.points.reduce((sum, { requests }) => sum + requests, 0);
  const failed = usage.points.reduce((sum, point) => sum + point.failed, 0);
  const outcomes = Object.entries(usage.outcomes).filter(([name]) => name !== "2xx");
  if (total === 0) {
    return html`<p>No requests in this time.${usage.last_used_at && html` Last used <${Time} at=${usage.last_used_at} />.`}</p>`;
  }
  return html`
    <p><strong>${count(total, "request")} · ${number(failed)} failed</strong></p>
    <${Chart} points=${usage.points} step=${usage.step} from=${usage.from} label="Requests" />
    ${outcomes.length > 0 && html`<p>Failed by result: ${outcomes.map(([name, amount]) => resultText(name, amount)).join(" · ")}</p>`}
    ${latencyText(usage.latency) && html`<p>Duration: ${latencyText(usage.latency)}</p>`}
  `;
}

/** @param {{ page: { items: Failure[], next: string | null } }} props */
function Failures({ page: { items, next } }) {
  if (items.length === 0) return html`<p>No failures are recorded.</p>`;
  return html`
    <table class="list">
      <thead><tr>${["Time", "Result", "Request", "By", "Duration", "Request ID"].map((title) => html`<th scope="col">${title}</th>`)}</tr></thead>
      <tbody>${items.map((failure) => html`
        <tr key=${failure.at}>
          <th scope="row"><${Time} at=${failure.at} /></th>
          <td data-label="Result"><strong>${failureText(failure)}</strong></td>
          <td data-label="Request"><span>${failure.method} <bdi>${failure.preset ? html`<a href=${`/ui/presets/${failure.preset}`}>${failure.preset}</a>` : failure.target}</bdi></span></td>
          <td data-label="By">${failure.who ? html`<bdi>${personName({ name: failure.who, label: "", identity: failure.who })}</bdi>` : html`<span class="soft">a test, or no caller</span>`}</td>
          <td data-label="Duration"><span>${number(failure.milliseconds)} ms</span></td>
          <td data-label="Request ID"><span><code>${failure.request_id}</code> <${Copy} text=${failure.request_id} /></span></td>
        </tr>
      `)}</tbody>
    </table>
    <p class="help">At most one failure a second is listed.</p>
    <${More} next=${next} name="before" text="Older failures" />
  `;
}

/** @param {{ id: string }} props The presets that use it, and for admins the callers and senders. */
function Users({ id }) {
  const { body } = useCall("/presets", { integration: id });
  const callers = useCall(may("admin") ? "/callers" : null);
  const tokens = useCall(may("admin") ? "/tokens" : null);
  if (!body) return null;
  /** @type {string[]} */
  const presets = body.items.map((/** @type {{ id: string }} */ preset) => preset.id);
  const inCallers = (callers.body?.items ?? []).filter((/** @type {any} */ caller) =>
    caller.integrations === "*" || caller.integrations.includes(id) || caller.presets === "*" || presets.some((preset) => caller.presets.includes(preset)));
  const senders = (tokens.body?.items ?? []).filter((/** @type {any} */ token) => presets.some((preset) => token.presets?.includes(preset)));
  const people = [
    ...inCallers.map((/** @type {any} */ { name }) => `${name} (caller)`),
    ...senders.map((/** @type {any} */ { name }) => `${name} (sender)`),
  ];
  return html`
    <section class="card pad" aria-labelledby="users">
      <h2 id="users">Who uses it</h2>
      <dl class="pairs">
        <dt>Presets</dt><dd>${presets.length === 0 ? "None" : presets.map((preset) => html`<a key=${preset} href=${`/ui/presets/${preset}`}>${preset}</a> `)}
          ${body.next && html`<a href=${`/ui/presets?integration=${id}`}>all</a>`}</dd>
        ${callers.body && tokens.body && html`<dt>May use it</dt><dd>
          ${people.length === 0 ? "No caller and no sender." : html`<bdi>${people.join(", ")}</bdi>`}
          ${(callers.body.next || tokens.body.next) && html`${" "}<a href="/ui/access?tab=callers">There may be more</a>`}
        </dd>`}
      </dl>
    </section>
  `;
}

/** @param {{ id: string, title: string, entries: Entry[] | undefined, problem: import("../api.js").Problem | null }} props */
function Changes({ id, title, entries = [], problem }) {
  return html`
    <section class="card pad" aria-labelledby="changes">
      <h2 id="changes">Changes</h2>
      <${Problem} problem=${problem} />
      <ul class="plain">${entries.slice(0, MAX_CHANGES).map((entry) => html`
        <li key=${entry.number}><bdi>${textOf({ ...entry, object: "integration", name: id, title })}</bdi> <span class="soft"><${Time} at=${entry.at} /></span></li>`)}</ul>
      ${may("admin") && html`<p><a href=${`/ui/activity?object=integration&name=${encodeURIComponent(id)}`}>All changes</a></p>`}
    </section>
  `;
}

/** @param {{ id: string, test: { path?: string } | undefined }} props Ways to call it from a program. */
function Developers({ id, test }) {
  const proxy = "127.0.0.1:8080";
  const url = `http://${proxy}/i/${id}${test?.path || "/"}`;
  const ways = [
    ["curl", `curl -H "Sidekey-Token: $SIDEKEY_TOKEN" '${url.replaceAll("'", "'\\''")}'`],
    ["HTTP_PROXY", `export HTTP_PROXY="http://${id}:$SIDEKEY_TOKEN@${proxy}"`],
    ["Python", `import os\n\nimport requests\n\nresponse = requests.get(${JSON.stringify(url)}, headers={"Sidekey-Token": os.environ["SIDEKEY_TOKEN"]})`],
    ["Node", `const response = await fetch(${JSON.stringify(url)}, {headers: {"Sidekey-Token": process.env.SIDEKEY_TOKEN}})`],
  ];
  return html`
    <${Details} summary="For developers: curl, HTTP_PROXY, Python, Node">
      <p>Send requests to Sidekey's proxy, here at <code>${proxy}</code>. Sidekey adds the credential. <code>SIDEKEY_TOKEN</code> is the token of
        a caller: ${may("admin") ? html`add one under <a href="/ui/access?tab=callers">Access, Callers</a>` : "ask an admin for one"}.</p>
      ${ways.map(([name, text]) => html`<h3>${name} <${Copy} text=${text} label=${`Copy ${name}`} /></h3><pre>${text}</pre>${name === "HTTP_PROXY" && html`<p class="help">For URLs that begin with
        http://; Sidekey sends them on by https if the integration does. For https:// set HTTPS_PROXY alike, and let the program trust
        Sidekey's own certificate authority: <code>sidekey exec ${id} -- PROGRAM</code> does both.</p>`}`)}
    <//>
  `;
}

/** @param {{ path: string }} props Explain which rule would allow or deny a request, and where the credential would go. */
function Explain({ path }) {
  const [values, setValues] = useState({ url: "", method: "" });
  const [explained, setExplained] = useState(/** @type {import("../api.js").Schemas["Explanation"] | null} */ (null));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  /** @param {"url" | "method"} name */
  const props = (name) => ({
    value: values[name],
    error: errorsAt(problem, `/${name}`),
    onInput: (/** @type {string} */ value) => setValues({ ...values, [name]: value.trim() }),
  });
  const explain = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const result = await post(`${path}/explain`, values);
    setExplained(result.ok ? result.body : null);
    setProblem(result.ok ? null : result.problem);
    if (result.ok) announce(`${result.body.allowed ? "Allowed" : "Denied"}: ${result.body.reason}`);
  };
  return html`
    <form onSubmit=${explain}>
      <${Text} label="URL or path" example="https://api.example.com/orders, or /orders" required ...${props("url")} />
      <${Text} label="Method" example="GET" ...${props("method")} />
      <${Submit}>Explain<//>
    </form>
    <${Problem} problem=${problem} fieldPointers=${["/url", "/method"]} />
    ${explained && html`<${Explanation} ...${explained} />`}
  `;
}

const PLACES = /** @type {const} */ (["headers", "query", "body", "signature", "handshake"]);

/** @param {import("../api.js").Schemas["Explanation"]} props */
function Explanation({ allowed, reason, sent_on: sentOn, rule, credential, signed = [], unsigned, note }) {
  const places = PLACES.flatMap((place) => (credential?.[place] ?? []).map((name) => `${name} (${place})`));
  return html`
    <p><${State} status=${allowed ? "accepted" : "not_sent"} text=${allowed ? "Allowed" : "Denied"} /> ${sentence(reason)}</p>
    <dl class="pairs">
      ${allowed && sentOn && html`<dt>Sent to</dt><dd><code>${sentOn}</code></dd>`}
      ${rule && html`<dt>Rule</dt><dd>${rule}</dd>`}
      ${places.length > 0 && html`<dt>Credential</dt><dd>${places.join(", ")}</dd>`}
      ${signed.map((text) => html`<dt>Signed</dt><dd><code>${text}</code></dd>`)}
      ${unsigned && html`<dt>Not signed</dt><dd>${unsigned}</dd>`}
    </dl>
    ${note && html`<${Details} summary="Note for developers"><p>${sentence(note)}</p><//>`}
  `;
}
