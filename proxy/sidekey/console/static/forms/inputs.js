// The fields of a form, each by its type.
import { html, useEffect, useState } from "../vendor/preact.js";
import { Check, Choice, errorsAt, FileText, Radios, Rows, Secret, Text } from "../fields.js";
import { withCode } from "../integration_parts.js";
import { pointer as pointerTo } from "./document.js";
import { sentence } from "../words.js";
import { EMPTY_HEADER, EMPTY_ROW, pointerOfRow, rowErrors, valueError } from "./model.js";
import { certificateText, convertText, enterAgain, IS_CERTIFICATE, setBy } from "./sentences.js";

/**
 * @typedef {import("./model.js").Field} Field
 * @typedef {import("./model.js").SecretValue} SecretValue
 * @typedef {import("./model.js").RowValue} RowValue
 * @typedef {import("../api.js").ItemError} ItemError
 * @typedef {{ errors: ItemError[], again: ItemError[], fields: Field[], isNew: boolean, attempted: boolean, isChecked: boolean, certificate: any, base: string | null, allowed: string[],
 *   suggestion: { method: string, path: string } | null, example: string }} Context
 *   `isChecked`: the errors are those of the present values. `again`: the secrets that must be entered again. `suggestion`: a request to test with. `example`: a path for it.
 * @typedef {{ field: Field, value: any, change: (value: any) => void, context: Context, error: string }} Props
 */

/** @param {string} text Draw a description of the API: keys are in backticks, and links lead to the documentation. */
function prose(text) {
  const plain = text.replace(/ ?\(\[[^\]]*\]\([^)]*\)\)/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
  return withCode(plain);
}

/** @param {Props} props */
export function FieldInput(props) {
  const { field, value, change, error, context } = props;
  const { label, required, example, options = [] } = field;
  const help = field.help && prose(field.help);
  const shared = { label, required, help, error, value, onInput: change };
  switch (field.type) {
    case "choice":
      return html`<${options.length > 5 ? Choice : Radios} ...${shared} options=${options} />`;
    case "check":
      return html`<${Check} ...${shared} />`;
    case "secret":
      return html`<${SecretInput} ...${shared} change=${change} isReadable=${field.isReadable} again=${againAt(context, pointerTo(field.path))} />`;
    case "pem":
      return html`<${PemInput} ...${props} />`;
    case "prefixes":
      return html`<${Texts} items=${value} onChange=${change} add="Add prefix" label=${label} required=${required} help=${help}
        example=${example} context=${context} pointer=${pointerTo(field.path)} error=${error} />`;
    case "domains":
      return html`<${Domains} ...${props} />`;
    case "parameters":
    case "headers":
      return html`<${NamedValues} ...${props} />`;
    case "test":
      return html`<${TestRequest} ...${props} />`;
    default: {
      // Several are listed beside the button Save.
      const targetHelp = field.key === "token_endpoint" && context.allowed.length === 1 ? `Requests may go to ${context.allowed[0]} and below.` : help;
      return html`<${Text} ...${shared} help=${targetHelp} example=${example} type=${field.input} suggestions=${field.suggestions} />`;
    }
  }
}

/** @param {Context} context @param {string} pointer @returns {string} Why a secret must be entered again, or empty. */
function againAt({ again, fields }, pointer) {
  const match = again.find((error) => error.pointer === pointer || error.pointer.startsWith(`${pointer}/`));
  return match === undefined ? "" : enterAgain(match, fields);
}

/**
 * A secret: that of the store is never shown, and stays unless it is replaced.
 * @param {{ label: string, value: SecretValue, change: (value: SecretValue) => void, required?: boolean, help?: string,
 *   error: string, again: string, input?: any, isReadable?: boolean }} props `input`: draws the input in place of the usual one.
 *   `isReadable`: what is typed can be read.
 */
function SecretInput({ label, value, change, required, help, error, again, input, isReadable }) {
  if (value.stored !== null && !value.replacing) {
    return html`<${Hidden} label=${label} text=${setBy(value.stored)} error=${again || error} replace=${() => change({ ...value, replacing: true })} />`;
  }
  const inputElement = input ?? html`<${Secret} label=${label} required=${required} help=${help} error=${error} value=${value.text} visible=${isReadable}
    autofocus=${value.stored !== null} onInput=${(/** @type {string} */ text) => change({ ...value, text })} />`;
  return html`
    ${inputElement}
    ${value.stored !== null && html`<p class="put-back">${setBy(value.stored)} <button type="button" class="button"
      aria-label=${`Keep the saved ${label}`} onClick=${() => change({ ...value, replacing: false, text: "", url: "" })}>Keep the saved one</button></p>`}
  `;
}

/** @param {{ label: string, text: string, error: string, replace: () => void }} props A secret that is not shown. */
function Hidden({ label, text, error, replace }) {
  return html`
    <div class=${error ? "field wrong" : "field"} role="group" aria-label=${label}>
      <p class="label">${label}</p>
      <p>${text} <button type="button" class="button" aria-label=${`Replace ${label}`} onClick=${replace}>Replace</button></p>
      ${error && html`<p class="error">${error}</p>`}
    </div>
  `;
}

/** @param {Props} props A certificate or key: from a file, as text, or from a URL. A key is hidden once it is valid. */
function PemInput({ field, value, change, error: refused, context }) {
  const { label, required, wrap } = field;
  // Without a certificate beside it, the API does not look at the key.
  const isSwapped = wrap !== "inline" && /BEGIN CERTIFICATE/.test(value.text) && !/PRIVATE KEY/.test(value.text);
  const error = refused || (isSwapped ? sentence(IS_CERTIFICATE) : "");
  const help = field.help && prose(field.help);
  const isCertificate = wrap === "inline";
  const [valid, setValid] = useState("");
  const section = pointerTo(field.path.slice(0, 1));
  const isValid = context.isChecked && !context.errors.some(({ pointer }) => pointer.startsWith(section));
  useEffect(() => {
    if (isValid && !isCertificate && value.by === "text") setValid(value.text);
  }, [isValid, value]);
  if (valid !== "" && value.text === valid && value.by === "text") {
    const text = error ? "It is hidden." : context.certificate === null ? "It is valid." : "It belongs to the certificate.";
    return html`<${Hidden} label=${label} text=${text} error=${error} replace=${() => change({ ...value, text: "" })} />`;
  }
  const url = html`<${Text} label=${`URL of the ${label.toLowerCase()}`} required=${required} type="url" error=${error} value=${value.url}
    help="Sidekey fetches it, and again every hour." onInput=${(/** @type {string} */ address) => change({ ...value, url: address })} />`;
  const text = html`<${FileText} label=${label} required=${required} accept=".pem,.crt,.cer,.key" help=${help} error=${error}
    convert=${(/** @type {string} */ name) => convertText(name, isCertificate)}
    value=${value.text} onInput=${(/** @type {string} */ text) => change({ ...value, text })} />`;
  const input = html`
    ${field.byUrl && html`<${Radios} label=${`How to enter the ${label.toLowerCase()}`} options=${[["text", "From a file, or as text"], ["url", "From a URL"]]}
      value=${value.by} onInput=${(/** @type {"text" | "url"} */ by) => change({ ...value, by })} />`}
    ${value.by === "url" ? url : text}
  `;
  return html`
    <${SecretInput} label=${label} value=${value} change=${change} error=${error} again=${againAt(context, pointerTo(field.path))} input=${input} />
    ${isCertificate && context.certificate !== null && html`<p class="facts">${certificateText(context.certificate)}
      ${context.certificate.subject === context.certificate.issuer && " It is self-signed: check the box below if that is intended."}</p>`}
  `;
}

/**
 * Rows of one text each.
 * @param {{ items: string[], onChange: (items: string[]) => void, add: string, label: string, required?: boolean, help?: string,
 *   example?: string, context: Context, pointer: string, error: string }} props
 */
function Texts({ items, onChange, add, label, required, help, example, context, pointer, error }) {
  /** @param {number} index */
  const errorOf = (index) => {
    if (error === "") return "";
    const errors = errorsAt(context, items.length > 1 ? `${pointer}/${index}` : pointer);
    return errors || (index === 0 ? error : "");
  };
  /** @param {string} text @param {(text: string) => void} change @param {number} index */
  const input = (text, change, index) => html`<${Text} label=${items.length > 1 ? `${label} ${index + 1}` : label} required=${required}
    help=${index === 0 ? help : undefined} type="url" example=${example} error=${errorOf(index)} value=${text} onInput=${change} />`;
  if (items.length > 1) return html`<${Rows} items=${items} onChange=${onChange} add=${add} empty="" row=${input} />`;
  return html`
    ${input(items[0] ?? "", (text) => onChange([text]), 0)}
    <p><button type="button" class="link" onClick=${() => onChange([items[0] ?? "", ""])}>${add}</button></p>
  `;
}

/** @param {Props} props */
function Domains({ field, value, change, error, context }) {
  return html`
    <${Check} label=${field.label} value=${value.isOn} onInput=${(/** @type {boolean} */ isOn) => change({ ...value, isOn })} />
    ${value.isOn && html`<div class="inner"><${Texts} items=${value.items} add="Add domain" label="Domain" required example=${field.example}
      onChange=${(/** @type {string[]} */ items) => change({ ...value, items })} help="Requests may also go to the domains listed here." context=${context} pointer="/allowed_domains" error=${error} /></div>`}
  `;
}

/** @param {Props} props Rows of headers, or of fields in a body or a query. Each value may be secret. */
function NamedValues({ field, value, change, context, error }) {
  const isHeaders = field.type === "headers";
  const names = rowErrors(value);
  return html`
    ${isHeaders && context.isNew && value.length > 0 && html`<${FirstHeader} first=${value[0]} change=${(/** @type {RowValue} */ first) => change(value.with(0, first))} />`}
    <${Rows} items=${value} onChange=${change} add=${isHeaders ? "Add header" : "Add field"} label=${field.label} empty=${isHeaders ? EMPTY_HEADER : EMPTY_ROW}
      row=${(/** @type {RowValue} */ row, /** @type {(row: RowValue) => void} */ edit, /** @type {number} */ index) => {
        const place = pointerOfRow(row, field);
        const wrong = errorOfRow(row, error, place, context);
        /** @param {keyof RowValue} key */
        const set = (key) => (/** @type {any} */ next) => edit({ ...row, [key]: next });
        return html`
          <div class="row wrap">
            <div class="grow"><${Text} label="Name" example=${isHeaders ? "X-API-Key" : "scope"} value=${row.name} error=${names[index]} onInput=${set("name")} /></div>
            ${isHeaders && row.isSecret && html`<div class="short"><${Text} label="Text before it" example="none" value=${row.prefix} onInput=${set("prefix")} /></div>`}
            <div class="wide">${row.isSecret
              ? html`<${SecretInput} label="Value" value=${row.secret} change=${set("secret")} error=${wrong} again=${againAt(context, place)} />`
              : html`<${Text} label="Value" value=${row.text} error=${wrong} onInput=${set("text")} />`}</div>
            ${!isHeaders && html`<${Choice} label="Goes into" options=${["body", "query"]} value=${row.place} onInput=${set("place")} />`}
            <${Check} label="Secret" value=${row.isSecret} onInput=${(/** @type {boolean} */ isSecret) => edit(withSecrecy(row, isSecret))} />
          </div>
        `;
      }} />
    ${field.help && html`<p class="help">${field.help}</p>`}
    ${isHeaders && error && value.length === 0 && html`<p class="error">${error}</p>`}
  `;
}

/**
 * @param {RowValue} row @param {string} error Of the whole field. @param {string} place @param {Context} context
 * @returns {string} What is wrong with a row that was filled in, or with any after an attempt to save.
 */
function errorOfRow(row, error, place, context) {
  const isFilled = context.attempted || row.text !== "" || row.secret.text !== "";
  const rowError = context.attempted || row.secret.stored !== null ? valueError(row) : "";
  if (rowError !== "") return rowError;
  return error && row.name !== "" && isFilled ? errorsAt(context, place) : "";
}

/** @param {RowValue} row @param {boolean} isSecret What was typed moves along; a stored secret never becomes public. @returns {RowValue} */
function withSecrecy(row, isSecret) {
  return isSecret
    ? { ...row, isSecret, text: "", raw: undefined, secret: { ...row.secret, text: row.text } }
    : { ...row, isSecret, text: row.secret.text, secret: { ...row.secret, text: "" } };
}

/** @type {[string, string][]} */
const HEADER_KINDS = [["bearer", "A bearer token"], ["key", "An API key"], ["other", "Something else"]];
/** @type {Record<string, { name: string, prefix: string }>} */
const FIRST_ROW = {
  bearer: { name: "Authorization", prefix: "Bearer " },
  key: { name: "X-API-Key", prefix: "" },
  other: { name: "", prefix: "" },
};

/** @param {{ first: RowValue, change: (first: RowValue) => void }} props */
function FirstHeader({ first, change }) {
  const fits = (/** @type {string} */ key) => first.name === FIRST_ROW[key].name && first.prefix === FIRST_ROW[key].prefix;
  const [kind, setKind] = useState(["bearer", "key"].find(fits) ?? "other");
  return html`<${Radios} label="What do you have?" options=${HEADER_KINDS} value=${kind} onInput=${(/** @type {string} */ key) => {
    setKind(key);
    change({ ...first, ...FIRST_ROW[key], isSecret: true });
  }} />`;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** @param {Props} props */
function TestRequest({ field, value, change, error, context }) {
  const { suggestion } = context;
  const methods = METHODS.includes(value.method) ? METHODS : [value.method, ...METHODS];
  const isUsed = suggestion !== null && value.path === suggestion.path && value.method === suggestion.method;
  return html`
    <fieldset class="test">
      <legend>${field.label}</legend>
      <div class="row wrap">
        <${Choice} label="Method" options=${methods} value=${value.method} onInput=${(/** @type {string} */ method) => change({ ...value, method })} />
        <div class="grow" data-test-path><${Text} label="Path" example=${`such as ${context.example}`} value=${value.path} error=${error}
          onInput=${(/** @type {string} */ path) => change({ ...value, path })} /></div>
      </div>
      ${suggestion !== null && !isUsed && html`<button type="button" class="button" onClick=${() => change({ ...suggestion })}>Use the suggestion: ${suggestion.method} ${suggestion.path}</button>`}
      ${context.base !== null && value.path.startsWith("/") && html`<p class="help"><bdi>${value.method} ${context.base.replace(/\/$/, "")}${value.path}</bdi></p>`}
      <p class="help">${field.help}</p>
    </fieldset>
  `;
}
