// Dialogs over a page: the native element keeps the focus inside and closes with Esc.
import { html, signal, useEffect, useId, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { Secret, Submit, Text, focusFirst } from "./fields.js";

/** @type {import("./vendor/preact.js").Signal<(() => any)[]>} */
const openDialogs = signal([]);

/** @param {{ title: string, onClose: () => void, children?: any }} props `onClose`: the person pressed Esc. */
export function Dialog({ title, onClose, children }) {
  const id = useId();
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const dialog = /** @type {HTMLDialogElement} */ (element.current);
    dialog.showModal();
    // Closing gives the focus back to where it was.
    return () => dialog.close();
  }, []);
  return html`
    <dialog ref=${element} aria-labelledby=${id} onCancel=${(/** @type {Event} */ event) => {
      event.preventDefault();
      onClose();
    }}>
      <h2 id=${id}>${title}</h2>
      ${children}
    </dialog>
  `;
}

/**
 * Show a dialog until it calls `close`, with the result.
 * @template T
 * @param {(close: (result: T) => void) => any} draw @returns {Promise<T>}
 */
export function showDialog(draw) {
  return new Promise((resolve) => {
    const OpenDialog = () => draw(close);
    /** @param {T} result */
    const close = (result) => {
      openDialogs.value = openDialogs.value.filter((dialog) => dialog !== OpenDialog);
      resolve(result);
    };
    openDialogs.value = [...openDialogs.value, OpenDialog];
  });
}

/**
 * Ask a question. `danger` marks what cannot be undone.
 * @param {{ title: string, text: any, yes: string, no?: string, danger?: boolean }} question
 * @returns {Promise<boolean>}
 */
export function ask({ title, text, yes, no = "Cancel", danger = false }) {
  return showDialog(
    (close) => html`
      <${Dialog} title=${title} onClose=${() => close(false)}>
        ${typeof text === "string" ? html`<p>${text}</p>` : text}
        <div class="actions">
          <button type="button" class=${danger ? "button danger" : "button primary"} onClick=${() => close(true)}>${yes}</button>
          <button type="button" class=${danger ? "button primary" : "button"} autofocus=${danger} onClick=${() => close(false)}>${no}</button>
        </div>
      <//>
    `,
  );
}

/**
 * Ask for a text. Null: the person cancelled it. While `check` returns an error, the dialog stays open and shows it.
 * @param {{ title: string, text: any, label: string, yes: string, isSecret?: boolean, suggestions?: string[],
 *   check?: (text: string) => Promise<string> }} question
 * @returns {Promise<string | null>}
 */
export function askText(question) {
  return showDialog((close) => html`<${TextDialog} ...${question} close=${close} />`);
}

/** @param {Parameters<typeof askText>[0] & { close: (text: string | null) => void }} props */
function TextDialog({ title, text, label, yes, isSecret = false, suggestions, check, close }) {
  const [value, setValue] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  useEffect(() => {
    if (error !== "") focusFirst(form.current);
  }, [error]);
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    const trimmed = value.trim();
    if (trimmed === "") return;
    setError("");
    setBusy(true);
    const error = (await check?.(trimmed)) ?? "";
    setBusy(false);
    if (error === "") close(trimmed);
    else setError(error);
  };
  const cancel = () => busy || close(null);
  return html`
    <${Dialog} title=${title} onClose=${cancel}>
      <form ref=${form} onSubmit=${submit}>
        <p>${text}</p>
        <${isSecret ? Secret : Text} label=${label} value=${value} onInput=${setValue} suggestions=${suggestions} error=${error} required />
        <div class="actions">
          <${Submit} busy=${busy}>${yes}<//>
          <button type="button" class="button" onClick=${cancel}>Cancel</button>
        </div>
      </form>
    <//>
  `;
}

/** The dialogs that `showDialog` opened, above the page. */
export function Dialogs() {
  return openDialogs.value.map((OpenDialog) => html`<${OpenDialog} />`);
}
