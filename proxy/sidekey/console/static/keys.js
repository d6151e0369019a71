// Keys: / searches, n adds, ? lists the keys. They can be switched off, since speech input may type them (WCAG 2.1.4).
import { html, signal } from "./vendor/preact.js";
import { Dialog, showDialog } from "./dialog.js";
import { Check } from "./fields.js";

const OFF = "sidekey-keys-off";
const off = signal(localStorage.getItem(OFF) !== null);

/** @type {Record<string, string>} The selector of the element for each key. A search gets the focus, others a click. */
const TARGETS = { "/": "main input[type=search]", n: 'main [data-key="n"]' };

/** @param {KeyboardEvent} event */
export function onKey(event) {
  const { key, target } = event;
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || off.value) return;
  if (target instanceof Element && target.matches("input:not([type=checkbox], [type=radio]), textarea, select")) return;
  if (document.querySelector("dialog[open]") !== null) return;
  if (key === "?") return showKeys();
  /** @type {HTMLElement | null} */
  const element = key in TARGETS ? document.querySelector(TARGETS[key]) : null;
  if (element === null) return;
  // The search would get the key as a text.
  event.preventDefault();
  if (element instanceof HTMLInputElement) element.select();
  else element.click();
}

/** @param {boolean} on */
function setEnabled(on) {
  off.value = !on;
  if (on) localStorage.removeItem(OFF);
  else localStorage.setItem(OFF, "1");
}

/** List the keys in a dialog. */
export function showKeys() {
  showDialog((close) => html`
    <${Dialog} title="Shortcuts" onClose=${close}>
      <dl class="keys">
        <dt><kbd>/</kbd></dt><dd>Search</dd>
        <dt><kbd>n</kbd></dt><dd>Add</dd>
        <dt><kbd>?</kbd></dt><dd>List the keys</dd>
        <dt><kbd>Esc</kbd></dt><dd>Close a dialog</dd>
      </dl>
      <${Check} label="Use these keys" value=${!off.value} onInput=${setEnabled} />
      <div class="actions"><button type="button" class="button" onClick=${close}>Close</button></div>
    <//>
  `);
}
