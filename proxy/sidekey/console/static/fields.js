// The only module with inputs. Label, help and error are attached to the input, also for screen readers.
// Values are strings, of Check booleans. `required` marks a field; the server decides what is valid.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { sentence } from "./words.js";

/**
 * @typedef {{ label: string, value: string, onInput: (value: string) => void, required?: boolean, help?: any,
 *   error?: string, disabled?: boolean, example?: string, autofocus?: boolean }} FieldProps
 * @typedef {[value: string, label: string, reason?: string]} Option With a reason, it cannot be chosen.
 */

/** @param {FieldProps & { type?: "text" | "email" | "url" | "tel" | "number", suggestions?: string[] }} props */
export function Text({ type = "text", suggestions = [], onInput, example, value, ...props }) {
  const list = useId();
  // A number stays the text that was typed.
  const kind = type === "number" ? { type: "text", inputmode: "decimal" } : { type };
  return field(props, (attributes) => [
    html`<input ...${attributes} ...${kind} value=${value} placeholder=${example} autocomplete="off" spellcheck=${false}
      list=${suggestions.length > 0 ? list : undefined} onInput=${onText(onInput)} />`,
    suggestions.length > 0 && html`<datalist id=${list}>${suggestions.map((text) => html`<option value=${text} />`)}</datalist>`,
  ]);
}

/** @param {FieldProps & { rows?: number, code?: boolean }} props */
export function Area({ rows = 4, code = false, onInput, example, value, ...props }) {
  return field(
    props,
    (attributes) => html`<textarea ...${attributes} class=${code ? "mono" : ""} rows=${rows} value=${value} placeholder=${example}
      spellcheck=${!code} onInput=${onText(onInput)}></textarea>`,
  );
}

/** @param {FieldProps & { marked: Set<number>, area: { current: HTMLTextAreaElement | null } }} props
 * Text with line numbers. A dot is beside the lines in `marked`. `area` gets the text area. */
export function Code({ marked, area, onInput, value, example, ...props }) {
  const lines = value.split("\n").length;
  const numbers = Array.from({ length: lines }, (_, index) => `${marked.has(index + 1) ? "●" : ""}${index + 1}`);
  return field(
    props,
    (attributes) => html`<div class="code">
      <pre class="numbers" aria-hidden="true">${numbers.join("\n")}</pre>
      <textarea ...${attributes} ref=${area} class="mono" rows=${lines + 1} wrap="off" value=${value} spellcheck=${false}
        autocapitalize="off" autocomplete="off" onInput=${onText(onInput)}></textarea>
    </div>`,
  );
}

/** @param {FieldProps & { visible?: boolean }} props A secret on one line, hidden until **Show** is pressed, unless it begins `visible`. */
export function Secret({ onInput, example, value, visible: startsVisible = false, ...props }) {
  const [visible, setVisible] = useState(startsVisible);
  return field(
    props,
    (attributes) => html`
      <div class="row">
        <input ...${attributes} type=${visible ? "text" : "password"} value=${value} placeholder=${example}
          autocomplete="off" spellcheck=${false} onInput=${onText(onInput)} />
        <button type="button" class="button" aria-label=${`${visible ? "Hide" : "Show"} ${props.label}`}
          onClick=${() => setVisible(!visible)}>${visible ? "Hide" : "Show"}</button>
      </div>
    `,
  );
}

/** @param {FieldProps & { options: (string | Option)[] }} props A drop-down list. */
export function Choice({ options, onInput, value, example, ...props }) {
  return field(
    props,
    (attributes) => html`<select ...${attributes} value=${value} onChange=${onText(onInput)}>
      ${options.map(toOption).map(
        ([key, label, reason]) =>
          html`<option value=${key} selected=${key === value} disabled=${Boolean(reason)}>${reason ? `${label} (${reason})` : label}</option>`,
      )}
    </select>`,
  );
}

/** @param {FieldProps & { options: (string | Option)[] }} props Radio buttons, for up to five options. */
export function Radios({ label, value, onInput, required, help, error, disabled = false, options }) {
  const id = useId();
  return html`
    <fieldset class=${error ? "field wrong" : "field"} aria-describedby=${describedBy(id, help, error)} disabled=${disabled}>
      <legend>${label}${requiredMark(required)}</legend>
      ${options.map(toOption).map(
        ([key, text, reason]) => html`
          <label class="check">
            <input type="radio" name=${id} value=${key} checked=${key === value} disabled=${Boolean(reason)}
              aria-invalid=${error ? "true" : undefined} onChange=${() => onInput(key)} />
            <span>${reason ? `${text} (${reason})` : text}</span>
          </label>
        `,
      )}
      ${helpAndError(id, help, error)}
    </fieldset>
  `;
}

/** @param {{ label: any, value: boolean, onInput: (value: boolean) => void, help?: any, error?: string, disabled?: boolean }} props */
export function Check({ label, value, onInput, help, error, disabled = false }) {
  const id = useId();
  return html`
    <div class=${error ? "field wrong" : "field"}>
      <label class="check">
        <input type="checkbox" id=${id} checked=${value} disabled=${disabled} aria-describedby=${describedBy(id, help, error)}
          aria-invalid=${error ? "true" : undefined}
          onChange=${(/** @type {any} */ event) => onInput(event.target.checked)} />
        <span>${label}</span>
      </label>
      ${helpAndError(id, help, error)}
    </div>
  `;
}

/** @param {{ label: string, value: string, onInput: (value: string) => void, example?: string, autofocus?: boolean }} props
 * Search as you type: calls `onInput` when nothing was typed for 200 ms, and at once with Enter. */
export function Search({ label, value, onInput, example, autofocus = false }) {
  const timer = useRef(0);
  const sent = useRef(value);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    // The URL has changed without this input, such as with Back.
    if (value === sent.current || input.current === null) return;
    clearTimeout(timer.current);
    sent.current = value;
    input.current.value = value;
  }, [value]);
  useEffect(() => {
    if (autofocus) input.current?.focus();
    return () => clearTimeout(timer.current);
  }, []);
  const send = () => {
    clearTimeout(timer.current);
    const next = input.current?.value.trim() ?? "";
    if (next === sent.current) return;
    sent.current = next;
    onInput(next);
  };
  return html`
    <form role="search" aria-label=${label} class="search" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      send();
    }}>
      <input type="search" ref=${input} aria-label=${label} placeholder=${example ?? label} defaultValue=${value} autocomplete="off"
        spellcheck=${false} onInput=${() => {
          clearTimeout(timer.current);
          timer.current = window.setTimeout(send, 200);
        }} />
    </form>
  `;
}

/** @param {(files: FileList | undefined) => void} onFiles Handlers of an element on which files can be dropped. */
const droppable = (onFiles) => ({
  onDragOver: (/** @type {Event} */ event) => event.preventDefault(),
  onDrop: (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    onFiles(event.dataTransfer?.files);
  },
});

const MAX_FILE_SIZE = 1 << 20;

/** @param {FieldProps & { accept?: string, convert: (name: string) => string }} props
 * Text that is typed, pasted, or read from a file. `convert` returns what to do with a file that is not text. */
export function FileText({ accept, convert, label, value, example, onInput, error, ...props }) {
  const [problem, setProblem] = useState("");
  /** @param {File | undefined} file */
  const read = async (file) => {
    if (file === undefined) return;
    setProblem("");
    if (file.size > MAX_FILE_SIZE) return setProblem("The file is larger than 1 MB.");
    try {
      const text = await file.text();
      // A text has no NUL, and each byte that is not UTF-8 becomes U+FFFD.
      if (/[\0\ufffd]/.test(text)) return setProblem(convert(file.name));
      onInput(text);
    } catch {
      setProblem("The file cannot be read.");
    }
  };
  return field(
    { ...props, label, error: problem || error },
    (attributes) => html`
      <div ...${droppable((files) => read(files?.[0]))}>
        <textarea ...${attributes} class="mono" rows="6" value=${value} placeholder=${example} spellcheck=${false}
          onInput=${onText((text) => {
            setProblem("");
            onInput(text);
          })}></textarea>
        <input type="file" accept=${accept} disabled=${props.disabled} aria-label=${`Read ${label} from a file`}
          onChange=${(/** @type {any} */ event) => {
            read(event.target.files[0]);
            event.target.value = "";
          }} />
      </div>
    `,
  );
}

/** @param {{ label: string, onFile: (file: File) => void, accept?: string, help?: any, error?: string, disabled?: boolean }} props
 * A file that is chosen or dropped here. */
export function FileInput({ onFile, accept, ...props }) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  /** @param {File | undefined} file */
  const choose = (file) => file !== undefined && !props.disabled && onFile(file);
  /** @param {FileList | undefined} files */
  const drop = (files) => {
    const input = element.current?.querySelector("input");
    if (!files?.length || !input || props.disabled) return;
    input.files = files;
    choose(files[0]);
  };
  return html`
    <div class="drop" ref=${element} ...${droppable(drop)}>
      ${field(
        props,
        (attributes) => html`<input type="file" ...${attributes} accept=${accept} onClick=${(/** @type {any} */ event) => {
          // Otherwise there is no event if the person has changed the file and chooses it again.
          event.target.value = "";
        }} onChange=${(/** @type {any} */ event) => choose(event.target.files[0])} />`,
      )}
    </div>
  `;
}

/**
 * Rows that can be added and removed.
 * @template T
 * @param {{ items: T[], onChange: (items: T[]) => void, add: string, empty: T, label?: string,
 *   row: (item: T, change: (item: T) => void, index: number) => any }} props
 * `add`: the text of the button, such as "Add domain". `empty`: a new row.
 */
export function Rows({ items, onChange, add, empty, row, label }) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const added = useRef(false);
  useLayoutEffect(() => {
    if (!added.current) return;
    added.current = false;
    /** @type {HTMLElement | null | undefined} */ (element.current?.querySelector(".rows > li:last-child :is(input, textarea, select)"))?.focus();
  }, [items.length]);
  return html`
    <div class="field" ref=${element} role="group" aria-label=${label ?? add}>
      ${label && html`<p class="label" aria-hidden="true">${label}</p>`}
      <ul class="rows">
        ${items.map(
          (item, index) => html`
            <li class="row" key=${index}>
              <div class="grow">${row(item, (next) => onChange(items.with(index, next)), index)}</div>
              <button type="button" class="button" aria-label=${`Remove row ${index + 1}`} onClick=${() => {
                onChange(items.toSpliced(index, 1));
                /** @type {HTMLElement | null | undefined} */ (element.current?.querySelector("[data-add]"))?.focus();
              }}>Remove</button>
            </li>
          `,
        )}
      </ul>
      <button type="button" class="button" data-add onClick=${() => {
        added.current = true;
        onChange([...items, empty]);
      }}>${add}</button>
    </div>
  `;
}

/** @param {{ items: { name: string, value: string }[], onChange: (items: { name: string, value: string }[]) => void,
 *   add: string, label: string, errors?: (index: number) => { value?: string } }} props Rows of a name and a value. */
export function Pairs({ items, onChange, add, label, errors }) {
  return html`<${Rows} items=${items} onChange=${onChange} add=${add} label=${label} empty=${{ name: "", value: "" }}
    row=${(/** @type {any} */ item, /** @type {any} */ change, /** @type {number} */ index) => html`
      <div class="row">
        <div class="grow"><${Text} label="Name" value=${item.name}
          onInput=${(/** @type {string} */ name) => change({ ...item, name })} /></div>
        <div class="grow"><${Text} label="Value" value=${item.value} error=${errors?.(index).value}
          onInput=${(/** @type {string} */ value) => change({ ...item, value })} /></div>
      </div>
    `} />`;
}

/** @param {{ busy?: boolean, disabled?: boolean, children?: any }} props The button that sends a form. `busy`: the request is running. */
export function Submit({ busy = false, disabled = false, children }) {
  // A disabled button would lose the focus.
  return html`<button type="submit" class="button primary" disabled=${disabled} aria-disabled=${busy ? "true" : undefined}
    onClick=${(/** @type {Event} */ event) => busy && event.preventDefault()}>${children}</button>`;
}

/**
 * Return the errors of a problem at a JSON pointer and below it, as one text. Empty: there are none.
 * @param {Pick<import("./api.js").Problem, "errors"> | null | undefined} problem @param {string} pointer
 */
export function errorsAt(problem, pointer) {
  const errors = (problem?.errors ?? []).filter((error) => error.pointer === pointer || error.pointer.startsWith(`${pointer}/`));
  return errors.map((error) => sentence(error.detail)).join(" ");
}

/** @param {Element | null | undefined} form Focus the first field with an error, else the first one that is empty. */
export function focusFirst(form) {
  const fields = [.../** @type {NodeListOf<HTMLInputElement>} */ (form?.querySelectorAll("input, textarea, select, .wrong button") ?? [])];
  const usable = fields.filter((field) => !field.disabled && field.checkVisibility());
  // A stored secret has a button to replace it, and no input.
  const wrong = usable.find((field) => field.getAttribute("aria-invalid") === "true" || field.closest('[role="group"].wrong'));
  const empty = usable.find((field) => !/^(?:checkbox|radio|file|button)$/.test(field.type) && field.value === "");
  (wrong ?? empty)?.focus();
}

/** @param {string | Option} choice @returns {Option} */
function toOption(choice) {
  return typeof choice === "string" ? [choice, choice] : choice;
}

/** @param {(value: string) => void} onInput */
const onText = (onInput) => (/** @type {any} */ event) => onInput(event.target.value);

/** @param {boolean | undefined} required */
const requiredMark = (required) => required && html`<span class="required" aria-hidden="true"> *</span>`;

/** @param {string} id @param {any} help @param {string | undefined} error */
function describedBy(id, help, error) {
  return [help && `${id}-help`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
}

/** @param {string} id @param {any} help @param {string | undefined} error */
function helpAndError(id, help, error) {
  return [
    error && html`<p class="error" id=${`${id}-error`}>${error}</p>`,
    help && html`<p class="help" id=${`${id}-help`}>${help}</p>`,
  ];
}

/** @param {any} props @param {(attributes: object) => any} draw Draw an input with its label; `attributes` are its attributes. */
function field({ label, required, help, error, disabled, autofocus }, draw) {
  const id = useId();
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    if (autofocus) element.current?.focus();
  }, []);
  const attributes = {
    id,
    ref: element,
    disabled,
    "aria-required": required ? "true" : undefined,
    "aria-invalid": error ? "true" : undefined,
    "aria-describedby": describedBy(id, help, error),
  };
  return html`
    <div class=${error ? "field wrong" : "field"}>
      <label for=${id}>${label}${requiredMark(required)}</label>
      ${draw(attributes)} ${helpAndError(id, help, error)}
    </div>
  `;
}
