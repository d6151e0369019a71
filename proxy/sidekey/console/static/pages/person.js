// Add a person, and change what a sender may send.
import { patch, post, useCall } from "../api.js";
import { Choice, Radios, Submit, Text, errorsAt, focusFirst } from "../fields.js";
import { Name, Picker, validateThenConfirm, sendsText, showToken } from "../grants.js";
import { Busy, Empty, Page, Problem, showNotice } from "../parts.js";
import { go, useLeaveQuestion } from "../router.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { ROLES } from "../words.js";

/** @typedef {{ name: string, role: string, presets: string[], per_minute: string, per_day: string, days: string }} Person */

/** @type {Person} */
const NEW = { name: "", role: "sender", presets: [], per_minute: "60", per_day: "1000", days: "" };
/** @type {[string, string][]} */
const PERIODS = [["", "Until it is revoked"], ["30", "30 days"], ["90", "90 days"], ["365", "A year"]];
const DAY = 86_400_000;
const FIELD_POINTERS = ["/name", "/role", "/presets", "/per_minute", "/per_day", "/expires_at"];

/** @param {{ params: { name?: string } }} props Without a name, a new person. */
export default function PersonPage({ params: { name } }) {
  const { result, problem } = useCall(name === undefined ? null : `/tokens/${encodeURIComponent(name)}`);
  const title = name === undefined ? "Add person" : `What ${name} may send`;
  const crumbs = html`<a href="/ui/access">Access</a> / ${name ?? "Add"}`;
  const loaded = name === undefined ? NEW : result?.ok && personOf(result.body);
  return html`
    <${Page} title=${title} crumbs=${crumbs}>
      <${Problem} problem=${problem} />
      ${loaded && loaded.role !== "sender"
        ? html`<${Empty}><p>${ROLES[loaded.role].name}: ${ROLES[loaded.role].does}. Only senders have presets and limits.</p>
            <p>To change the role, revoke the token and add the person again.</p><a class="button" href="/ui/access">Back to Access</a><//>`
        : loaded
        ? html`<${Form} key=${name ?? ""} loaded=${loaded} etag=${result?.ok ? result.etag : null} isNew=${name === undefined} />`
        : !problem && html`<${Busy} />`}
    <//>
  `;
}

/** @param {any} token @returns {Person} */
function personOf({ name, role, presets, per_minute, per_day }) {
  return { ...NEW, name, role, presets: presets ?? [], per_minute: String(per_minute), per_day: String(per_day) };
}

/** @param {{ loaded: Person, etag: string | null, isNew: boolean }} props */
function Form({ loaded, etag, isNew }) {
  const [person, setPerson] = useState(loaded);
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const [tried, setTried] = useState(loaded);
  const [busy, setBusy] = useState(false);
  /** @type {{ current: HTMLFormElement | null }} */
  const form = useRef(null);
  useLeaveQuestion(() => person !== loaded);
  useEffect(() => {
    if (problem?.code === "invalid") focusFirst(form.current);
  }, [problem]);
  const isSender = person.role === "sender";
  /** @param {keyof Person} key */
  const set = (key) => (/** @type {any} */ value) => setPerson({ ...person, [key]: value });
  /** @param {keyof Person} key An error belongs to the value that was sent. */
  const at = (key) => (person[key] === tried[key] ? errorsAt(problem, key === "days" ? "/expires_at" : `/${key}`) : "");

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    setTried(person);
    const grants = isSender
      ? { presets: person.presets, per_minute: numberIn(person.per_minute), per_day: numberIn(person.per_day) }
      : {};
    const { name, role, days } = person;
    const expires = days === "" ? null : new Date(Date.now() + Number(days) * DAY).toISOString().replace(/\.\d+/, "");
    const result = await (isNew
      ? validateThenConfirm(`${name} gets a token with the role ${ROLES[role].name}${isSender ? `, and may send ${sendsText(person)}` : ""}.`, (confirmation) =>
          post("/tokens", { name, role, ...grants, expires_at: expires, ...confirmation }))
      : validateThenConfirm(`${name} may send ${sendsText(person)}.`, (confirmation) =>
          patch(`/tokens/${encodeURIComponent(name)}`, { ...grants, ...confirmation }, { etag })));
    setBusy(false);
    if (result === null) return;
    if (!result.ok) return setProblem(result.problem);
    if (isNew) await showToken(name, result.body.token, "person");
    showNotice("Saved.");
    go("/access", { skipQuestion: true });
  };

  return html`
    <form class="limited" ref=${form} onSubmit=${submit}>
      ${isNew && html`
        <${Name} onInput=${set("name")} error=${at("name")} />
        <${Radios} label="Role" value=${person.role} onInput=${set("role")} error=${at("role")}
          options=${Object.entries(ROLES).map(([role, { name, does }]) => [role, `${name}: ${does}`])} />
      `}
      ${isSender && html`
        <${Picker} kind="presets" label="Presets" fillable chosen=${person.presets} onChange=${set("presets")} error=${at("presets")} />
        <p class="help">Editors can change what a preset sends, also after you allowed it.</p>
        <div class="row field">
          <${Text} type="number" label="Sends a minute" value=${person.per_minute} onInput=${set("per_minute")} error=${at("per_minute")} />
          <${Text} type="number" label="Sends in 24 hours" value=${person.per_day} onInput=${set("per_day")} error=${at("per_day")} />
        </div>
      `}
      ${isNew && html`<${Choice} label="The token works" value=${person.days} onInput=${set("days")} options=${PERIODS} error=${at("days")} />`}
      <${Problem} problem=${problem} fieldPointers=${FIELD_POINTERS} />
      <div class="actions"><${Submit} busy=${busy}>${isNew ? "Add person" : "Save"}<//><a class="button" href="/ui/access">Cancel</a></div>
    </form>
  `;
}

/** @param {string} text The number, or the text for Sidekey to refuse. */
const numberIn = (text) => (/^-?\d+$/.test(text.trim()) ? Number(text) : text);
