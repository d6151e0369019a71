// The form of a preset: its inputs, and their values as JSON.
import { Area, Check, Choice, errorsAt, Radios, Text } from "./fields.js";
import { Exact, numberOf, writeExact } from "./exact.js";
import { html } from "./vendor/preact.js";

/**
 * @typedef {import("./api.js").Schemas["FormParameter"]} Parameter
 * @typedef {import("./api.js").Schemas["Form"]} Form
 * @typedef {Record<string, string | boolean>} Values Texts, also of numbers, and booleans. A payload is the value of "".
 */

const MAX_RADIOS = 5;
const PAYLOAD = "";

/** @param {{ form: Form, values: Values, onInput: (name: string, value: string | boolean) => void,
 *   errors?: Record<string, string>, disabled?: boolean }} props Inputs of a preset; `errors` are texts by name. */
export function FormOfPreset({ form, values, onInput, errors = {}, disabled = false }) {
  if (form.takes === "payload") {
    return html`<${Area} label=${form.content_type ? `The content, as ${form.content_type}` : "The content"} code rows=${8}
      value=${values[PAYLOAD] ?? ""} onInput=${(/** @type {string} */ value) => onInput(PAYLOAD, value)}
      error=${errors[PAYLOAD]} disabled=${disabled} />`;
  }
  return form.parameters.map((parameter) => {
    const { name, required } = parameter;
    const onChange = (/** @type {string | boolean} */ value) => onInput(name, value);
    const help = helpOf(parameter);
    return html`<${Input} key=${name} parameter=${parameter} label=${labelOf(parameter)} help=${help} required=${required}
      value=${values[name] ?? ""} onInput=${onChange} error=${errors[name]} disabled=${disabled} />`;
  });
}

/** @param {{ parameter: Parameter, [name: string]: any }} props */
function Input({ parameter, ...props }) {
  const { type, format } = parameter;
  if (type === "boolean") return html`<${Check} ...${props} value=${props.value === true} />`;
  if (parameter.enum) {
    const options = parameter.enum.map(String);
    if (options.length <= MAX_RADIOS) return html`<${Radios} ...${props} options=${options} />`;
    return html`<${Choice} ...${props} options=${[["", "Choose…"], ...options]} />`;
  }
  const example = isAbsent(parameter.example) ? undefined : String(parameter.example);
  if (format === "textarea") return html`<${Area} ...${props} example=${example} />`;
  const kind = type === "number" ? "number" : format === "phone" ? "tel" : format;
  return html`<${Text} ...${props} example=${example} type=${kind ?? "text"} />`;
}

/** @param {Parameter} parameter */
export const labelOf = ({ title, name }) => title || name;

/** @param {Parameter} parameter */
function helpOf({ help, default: value, type, enum: choices }) {
  const isVisible = type === "boolean" || choices || isAbsent(value);
  return [help, !isVisible && `If you leave it empty: ${value}`].filter(Boolean).join(" ");
}

/** @param {unknown} value */
const isAbsent = (value) => value === null || value === undefined || value === "";

/**
 * Return the values of an untouched form. Visible choices have their default. Sidekey adds that of an empty input.
 * @param {Form} form @returns {Values}
 */
export function initialValues({ parameters }) {
  return Object.fromEntries(
    parameters.map(({ name, type, default: value, enum: choices }) => [
      name,
      type === "boolean" ? value === true : choices && !isAbsent(value) ? String(value) : "",
    ]),
  );
}

/**
 * Write parameters as JSON. Digits stay: 1.10 is sent as 1.10. An empty input is left out, so that its default counts,
 * or Sidekey reports that it is required.
 * @param {Form} form @param {Values} values
 */
export function parametersOf({ parameters }, values) {
  const filled = parameters.filter(({ name }) => (values[name] ?? "") !== "");
  return writeExact(Object.fromEntries(filled.map(({ name, type }) => [name, type === "number" ? numberOf(String(values[name])) : values[name]])));
}

/**
 * Write the body of a send as JSON, with further members.
 * @param {Form} form @param {Values} values @param {Record<string, unknown>} [more]
 */
export function bodyOf(form, values, more = {}) {
  const content = form.takes === "payload" ? { payload: values[PAYLOAD] ?? "" } : { parameters: new Exact(parametersOf(form, values)) };
  return writeExact({ ...content, ...more });
}

/**
 * Return the errors of a problem by name.
 * @param {Form} form @param {import("./api.js").Problem | null} problem @returns {Record<string, string>}
 */
export function errorsIn({ takes, parameters }, problem) {
  if (takes === "payload") return { [PAYLOAD]: errorsAt(problem, "/payload") };
  return Object.fromEntries(parameters.map(({ name }) => [name, errorsAt(problem, `/parameters/${name}`)]));
}
