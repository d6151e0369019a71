// Access: people, callers and sessions.
import { useCall, post, remove } from "../api.js";
import { ask } from "../dialog.js";
import { sendsText, showToken, idsText } from "../grants.js";
import { Busy, Empty, More, Page, Problem, State, Tabs, Time, showNotice } from "../parts.js";
import { mayChange, me, confirmAndCall } from "../session.js";
import { ago } from "../time.js";
import { html, useState } from "../vendor/preact.js";
import { ROLES, personName } from "../words.js";

/**
 * @typedef {{ name: string, source: "file" | "store", version: number | null, status: string, problem: string | null,
 *   role: keyof typeof ROLES, presets: string[] | null, per_minute: number | null, per_day: number | null,
 *   expires_at: string | null, last_used_at: string | null }} Token
 * @typedef {{ name: string, source: "file" | "store", version: number | null, status: string, problem: string | null,
 *   integrations: "*" | string[], presets: "*" | string[] }} Caller
 * @typedef {{ id: string, who: string, identity: string, label: string, role: keyof typeof ROLES, begun_at: string,
 *   ends_at: string, current: boolean }} Session
 */

/** @type {[string, string][]} */
const TABS = [["people", "People"], ["callers", "Callers"], ["sessions", "Sessions"]];
const EVERY = 30_000;

/** @param {{ query: URLSearchParams }} props */
export default function AccessPage({ query }) {
  const tab = query.get("tab") ?? "people";
  const List = { people: People, callers: Callers, sessions: Sessions }[tab] ?? People;
  const add = { people: ["/ui/add/access/people", "Add person"], callers: ["/ui/add/access/callers", "Add caller"] }[tab];
  return html`
    <${Page} title="Access" actions=${add && mayChange("admin") && html`<a class="button primary" href=${add[0]} data-key="n">${add[1]}</a>`}>
      <${Tabs} items=${TABS} value=${tab} />
      <${List} key=${tab} after=${query.get("after")} />
    <//>
  `;
}

/** @param {{ after: string | null }} props */
function People({ after }) {
  return html`<${ResourceTable} path="/tokens" after=${after} columns=${["Name", "May", "Last used"]} empty="Nobody has a token yet. Add a person." row=${
    (/** @type {Token} */ token, /** @type {Act} */ act) => html`<${Person} key=${token.source + token.name} token=${token} act=${act} />`
  } />`;
}

/** @param {{ token: Token, act: Act }} props */
function Person({ token, act }) {
  const { name, role, source, expires_at: expires, last_used_at: used } = token;
  const isMe = me.value?.name === name && me.value.source === source;
  const path = `/tokens/${encodeURIComponent(name)}`;
  const rotate = () => {
    const why = `${name} gets a new token. The present one and its sessions end at once.`;
    return act(
      `${name} has a new token.`,
      () => confirmAndCall(isMe ? `${why} You log in again with the new one.` : why, (confirmation) => post(`${path}/rotate`, confirmation, { etag: etagOf(token) })),
      (body) => showToken(name, body.token, "person"),
      isMe,
    );
  };
  const revoke = () =>
    act(`The token of ${name} is revoked.`, async () => {
      const text = isMe
        ? "This is your own token: you are logged out at once, and can log in with another one only."
        : `${name} can no longer log in. Open sessions end at once.`;
      const sure = await ask({ title: `Revoke the token of ${name}?`, text, yes: "Revoke", danger: true });
      return sure ? remove(path, { etag: etagOf(token) }) : null;
    });
  return html`
    <tr>
      <th scope="row"><bdi>${name}</bdi>${isMe && html` <span class="soft">(you)</span>`}
        ${token.problem && html`<p><${State} status="unusable" /> ${token.problem}</p>`}</th>
      <td data-label="May"><span class="strong">${ROLES[role].name}</span><p>${role === "sender" ? `Sends ${sendsText(token)}` : ROLES[role].does}</p></td>
      <td data-label="Last used">${used ? html`<${Time} at=${used} text=${ago(used)} />` : source === "store" ? "Never" : html`<span class="soft">Not recorded</span>`}
        ${expires && html`<p>Until <${Time} at=${expires} /></p>`}</td>
      <td class="acts">${
        source === "file"
          ? html`<span class="soft">Set in the config file. Change it there.</span>`
          : html`
            ${role === "sender" && !token.problem && html`<a class="button" href=${`/ui/access/people/${encodeURIComponent(name)}`} aria-label=${`Edit ${name}`}>Edit</a>`}
            ${!token.problem && html`<button type="button" class="button" aria-label=${`New token for ${name}`} onClick=${rotate}>New token</button>`}
            <button type="button" class="button danger" aria-label=${`Revoke ${name}`} onClick=${revoke}>Revoke</button>`
      }</td>
    </tr>
  `;
}

/** @param {{ after: string | null }} props */
function Callers({ after }) {
  return html`<p>A caller is a service that sends requests through Sidekey with a token of its own.</p>
    <${ResourceTable} path="/callers" after=${after} columns=${["Name", "Integrations", "Presets"]} empty="There are no callers yet. Add the first one." row=${
    (/** @type {Caller} */ caller, /** @type {Act} */ act) => html`<${OneCaller} key=${caller.source + caller.name} caller=${caller} act=${act} />`
  } />`;
}

/** @param {{ caller: Caller, act: Act }} props */
function OneCaller({ caller, act }) {
  const { name, source, integrations, presets } = caller;
  const path = `/callers/${encodeURIComponent(name)}`;
  const rotate = () =>
    act(
      `${name} has a new token.`,
      () =>
        confirmAndCall(`The caller ${name} gets a new token. Requests with the present one are refused at once.`, (confirmation) =>
          post(`${path}/rotate`, confirmation, { etag: etagOf(caller) })),
      (body) => showToken(name, body.token, "caller"),
    );
  const deleteCaller = () =>
    act(`The caller ${name} is deleted.`, async () => {
      const sure = await ask({ title: `Delete the caller ${name}?`, text: "Its requests are refused at once.", yes: "Delete", danger: true });
      return sure ? remove(path, { etag: etagOf(caller) }) : null;
    });
  return html`
    <tr>
      <th scope="row"><bdi>${name}</bdi>${caller.problem && html`<p><${State} status="unusable" /> ${caller.problem}</p>`}</th>
      <td data-label="Integrations">${idsText(integrations, "integrations")}</td>
      <td data-label="Presets">${idsText(presets, "presets")}</td>
      <td class="acts">${
        source === "file"
          ? html`<span class="soft">Set in the config file. Change it there.</span>`
          : html`
            ${!caller.problem && html`<a class="button" href=${`/ui/access/callers/${encodeURIComponent(name)}`} aria-label=${`Edit ${name}`}>Edit</a>
            <button type="button" class="button" aria-label=${`New token for ${name}`} onClick=${rotate}>New token</button>`}
            <button type="button" class="button danger" aria-label=${`Delete ${name}`} onClick=${deleteCaller}>Delete</button>`
      }</td>
    </tr>
  `;
}

/** @param {{ after: string | null }} props */
function Sessions({ after }) {
  return html`<${ResourceTable} path="/sessions" after=${after} columns=${["Who", "May", "Session"]} empty="Nobody is logged in." row=${
    (/** @type {Session} */ session, /** @type {Act} */ act) => html`<${OneSession} key=${session.id} session=${session} act=${act} />`
  } />`;
}

/** @param {{ session: Session, act: Act }} props */
function OneSession({ session, act }) {
  const { id, who, label, identity, role, begun_at: begun, ends_at: ends, current } = session;
  const name = personName({ name: who, label, identity });
  const end = () =>
    act("The session is ended.", async () => {
      const text = "It ends at once here, and within a second everywhere.";
      const sure = await ask({ title: `End the session of ${name}?`, text, yes: "End", danger: true });
      return sure ? remove(`/sessions/${encodeURIComponent(id)}`) : null;
    });
  return html`
    <tr>
      <th scope="row"><bdi>${name}</bdi>${current && html` <span class="soft">(this one)</span>`}
        <details class="help"><summary>Identity</summary><code>${identity}</code></details></th>
      <td data-label="May">${ROLES[role].name}</td>
      <td data-label="Session"><span>since <${Time} at=${begun} />, until <${Time} at=${ends} /></span></td>
      <td class="acts"><button type="button" class="button danger" aria-label=${`End the session of ${name}`} onClick=${end}>End</button></td>
    </tr>
  `;
}

/**
 * @typedef {(text: string, work: () => Promise<import("../api.js").Result | null>, show?: (body: any) => Promise<unknown>, endsSession?: boolean) => Promise<void>} Act
 * Runs an action of a row, reloads the list and shows the result. Null: the person cancelled it.
 */

/** @param {{ path: string, after: string | null, columns: string[], empty: string, row: (item: any, act: Act) => any }} props */
function ResourceTable({ path, after, columns, empty, row }) {
  const { body, problem, loading, reload } = useCall(path, { after }, { every: EVERY });
  const [failed, setFailed] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  /** @type {Act} */
  const act = async (text, work, show, endsSession = false) => {
    setFailed(null);
    const result = await work();
    if (result === null) return;
    // The next action has the new version if the list is reloaded first. A session that has ended would have to begin
    // again, by a dialog above that of `show`.
    if (!endsSession || !result.ok) reload();
    if (!result.ok) {
      setFailed(result.problem);
      return;
    }
    await show?.(result.body);
    showNotice(text);
    if (endsSession) reload();
  };
  if (!body) return loading ? html`<${Busy} />` : html`<${Problem} problem=${problem} />`;
  return html`
    <${Problem} problem=${failed ?? problem} />
    ${body.items.length === 0
      ? html`<${Empty}><p>${empty}</p><//>`
      : html`
        <div class="card"><table class="list">
          <thead><tr>${columns.map((text) => html`<th scope="col">${text}</th>`)}<th scope="col"><span class="hidden">Actions</span></th></tr></thead>
          <tbody>${body.items.map((/** @type {any} */ item) => row(item, act))}</tbody>
        </table></div>`}
    <${More} next=${body.next} />
  `;
}

/** @param {{ version: number | null }} item */
const etagOf = ({ version }) => `"${version}"`;
