// Choose what people and callers may use, confirm changes, and show new tokens.
import { useCall } from "./api.js";
import { Check, Search, Text } from "./fields.js";
import { Copy, Problem } from "./parts.js";
import { Dialog, showDialog } from "./dialog.js";
import { confirmAndCall } from "./session.js";
import { number } from "./time.js";
import { html, useRef, useState } from "./vendor/preact.js";
import { idOf } from "./words.js";

/** @typedef {{ id: string, title?: string, takes?: "parameters" | "payload" | null }} Item */

/**
 * Choose presets or integrations by search.
 * @param {{ kind: "presets" | "integrations", chosen: string[], onChange: (ids: string[]) => void, label: string,
 *   fillable?: boolean, error?: string }} props `fillable`: only presets that a sender can fill in.
 */
export function Picker({ kind, chosen, onChange, label, fillable = false, error }) {
  const [q, setQ] = useState("");
  const { body, problem } = useCall(`/${kind}`, { q });
  /** @type {Item[]} */
  const matches = body?.items ?? [];
  const others = q === "" ? chosen.filter((id) => !matches.some((item) => item.id === id)).map((id) => ({ id })) : [];
  /** @type {Item[]} */
  const items = [...others, ...matches];
  /** @param {string} id @param {boolean} value */
  const choose = (id, value) => onChange(value ? [...chosen, id] : chosen.filter((other) => other !== id));
  return html`
    <fieldset class=${error ? "field wrong picker" : "field picker"}>
      <legend>${label} <span class="soft">${chosen.length} chosen</span></legend>
      ${error && html`<p class="error">${error}</p>`}
      <${Search} label=${`Find ${kind}`} value=${q} onInput=${setQ} />
      <${Problem} problem=${problem} />
      <div class="choices">
        ${items.map((item) => {
          const reason = fillable && item.takes === "payload" ? "has no body to fill in" : "";
          const isChosen = chosen.includes(item.id);
          return html`<${Check} key=${item.id} label=${labelOf(item)} value=${isChosen} help=${reason}
            disabled=${reason !== "" && !isChosen} onInput=${(/** @type {boolean} */ value) => choose(item.id, value)} />`;
        })}
      </div>
      ${body && items.length === 0 && html`<p class="help">${q === "" ? `There are no ${kind} yet.` : "Nothing matches."}</p>`}
      ${body?.next && html`<p class="help">There are more. Search for them.</p>`}
    </fieldset>
  `;
}

/** @param {Item} item Only the items of the search have titles. */
function labelOf({ id, title }) {
  return title && title !== id ? html`${title} <span class="soft">${id}</span>` : id;
}

/** @param {{ onInput: (name: string) => void, error: string }} props
 * The name of a new person or caller. It calls `onInput` with the form that Sidekey accepts, which it shows. */
export function Name({ onInput, error }) {
  const [text, setText] = useState("");
  const name = idOf(text);
  const help = name === text ? "It cannot change." : name ? html`Saved as <strong>${name}</strong>. It cannot change.` : "Use letters from a to z, or digits.";
  return html`<${Text} label="Name" value=${text} error=${error && name === "" ? "Enter a name." : error} required autofocus help=${help}
    onInput=${(/** @type {string} */ next) => {
      setText(next);
      onInput(idOf(next));
    }} />`;
}

/**
 * Make the call of a form that decides who may do what: first without a confirmation, so that all other errors come before the question.
 * @param {string} why @param {(confirmation: { own_token?: string }) => Promise<import("./api.js").Result>} call
 * @returns {Promise<import("./api.js").Result | null>}
 */
export async function validateThenConfirm(why, call) {
  const result = await call({});
  if (result.ok || (result.problem.code !== "invalid" && result.problem.code !== "login_again")) return result;
  const errors = result.problem.errors.filter(({ pointer }) => pointer !== "/own_token");
  if (errors.length > 0) return { ...result, problem: { ...result.problem, detail: "Correct the marked fields", errors } };
  return confirmAndCall(why, call);
}

/**
 * Show a new token until the person has copied it. Esc does not close it: nobody can show the token again.
 * @param {string} name @param {string} token @param {"person" | "caller"} kind
 */
export function showToken(name, token, kind) {
  return showDialog((close) => html`<${TokenDialog} name=${name} token=${token} kind=${kind} close=${() => close(null)} />`);
}

/** @param {{ name: string, token: string, kind: "person" | "caller", close: () => void }} props */
function TokenDialog({ name, token, kind, close }) {
  const text = useRef(null);
  const usage = kind === "person" ? `${name} logs in with it at ${location.origin}/ui/.` : "The service sends it in the header Sidekey-Token.";
  return html`
    <${Dialog} title=${`The token of ${name}`} onClose=${() => {}}>
      <p>Copy it now. Nobody can show it again. ${usage}</p>
      <pre ref=${text}>${token}</pre>
      <div class="actions">
        <${Copy} text=${token} label="Copy the token" source=${text} />
        <button type="button" class="button" onClick=${close}>I have copied it</button>
      </div>
    <//>
  `;
}

const SHOWN = 5;

/** @param {"*" | string[]} ids @param {string} kind */
export function idsText(ids, kind) {
  if (ids === "*") return `All ${kind}`;
  if (ids.length === 0) return `No ${kind}`;
  const more = ids.length - SHOWN;
  return more > 0 ? `${ids.slice(0, SHOWN).join(", ")} and ${more} more` : ids.join(", ");
}

/** @param {{ presets: string[] | null, per_minute: number | string | null, per_day: number | string | null }} grants Those of a sender. */
export const sendsText = ({ presets, per_minute: minute, per_day: day }) =>
  `${idsText(presets ?? [], "presets")} · ${number(Number(minute))} a minute, ${number(Number(day))} a day`;
