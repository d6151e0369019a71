// The YAML editor of a document, with the server's errors at their lines.
import { html, useRef } from "../vendor/preact.js";
import { Code } from "../fields.js";
import { ask } from "../dialog.js";
import { diff } from "../diff.js";
import { ago } from "../time.js";

/** @typedef {import("../api.js").ItemError} ItemError */

/** @param {{ text: string, onInput: (text: string) => void, errors: ItemError[], warnings: ItemError[] }} props */
export function Advanced({ text, onInput, errors, warnings }) {
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  /** @param {ItemError} error */
  const goTo = ({ line = 1, column = 1 }) => {
    const before = text.split("\n").slice(0, line - 1).reduce((sum, previous) => sum + previous.length + 1, 0);
    area.current?.focus();
    area.current?.setSelectionRange(before + column - 1, before + column - 1);
  };
  return html`
    <p class="help">A secret that you have typed can be read here until it is saved. A saved one reads <code>set: true</code>:
      to replace it, write <code>value: …</code> in place of its lines. Comments are not kept.</p>
    <${Code} label="Document in YAML" area=${area} value=${text} onInput=${onInput}
      marked=${new Set(errors.flatMap(({ line }) => line ?? []))} />
    <${Items} title="Errors" mood="bad" items=${errors} goTo=${goTo} />
    <${Items} title="Warnings" mood="warning" items=${warnings} goTo=${goTo} />
  `;
}

/** @param {{ title: string, mood: string, items: ItemError[], goTo: (error: ItemError) => void }} props */
function Items({ title, mood, items, goTo }) {
  if (items.length === 0) return null;
  return html`
    <div class=${`banner ${mood}`}>
      <p><strong>${title}</strong></p>
      <ul>${items.map((item) => html`
        <li>
          ${item.line && html`<button type="button" class="link" onClick=${() => goTo(item)}>Line ${item.line}</button> `}
          ${item.pointer && html`<code>${item.pointer}</code> `}${item.detail}
        </li>
      `)}</ul>
    </div>
  `;
}

/** @param {{ before: string, after: string }} props The lines that differ, with the values of secrets hidden. */
function Difference({ before, after }) {
  /** @type {Record<string, string>} */
  const words = { "-": "Removed: ", "+": "Added: " };
  return html`
    <pre class="diff">${diff(before, after).map(({ sign, text }) => html`<span class=${sign === "-" ? "old" : sign === "+" ? "new" : ""}>${
      words[sign] && html`<span class="hidden">${words[sign]}</span>`}${`${sign} ${text}\n`}</span>`)}</pre>
  `;
}

/** @param {string} before @param {string} after @returns {Promise<boolean>} Show the changes, and ask whether to save them. */
export function confirmChanges(before, after) {
  const text = html`<${Difference} before=${before} after=${after} /><p class="help">Values of secrets are hidden. Comments are not kept.</p>`;
  return ask({ title: "Save these changes?", text, yes: "Save these changes" });
}

/**
 * Two people changed an integration at the same time: the second sees the difference and chooses.
 * @param {{ by: string, at: string, theirs: string, mine: string, isForm: boolean, useMine: (() => void) | null, useTheirs: () => void }} props
 * `theirs` and `mine`: YAML. `useMine`: null if the two cannot be merged.
 */
export function Conflict({ by, at, theirs, mine, isForm, useMine, useTheirs }) {
  return html`
    <section class="banner" role="alert">
      <p><strong>Not saved: ${by} saved this ${ago(at)}.</strong> Your changes are still here. Lines with - are theirs, lines with + are yours.</p>
      <${Difference} before=${theirs} after=${mine} />
      <div class="actions">
        ${useMine && html`<button type="button" class="button" onClick=${useMine}>Use mine</button>`}
        <button type="button" class="button" onClick=${useTheirs}>Use theirs</button>
      </div>
      <p class="help">${isForm
        ? "Mine: your changes are applied to their version. Theirs: your changes are lost. Nothing is saved until you press Save."
        : "Mine: your text replaces their version when you save it. Theirs: your text is lost."}</p>
    </section>
  `;
}
