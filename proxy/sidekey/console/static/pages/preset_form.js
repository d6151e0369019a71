// The form of a preset, beside previews of the sender's form and of the request.
import { get, post, put, useCall } from "../api.js";
import { diff } from "../diff.js";
import { Area, Check, Choice, Pairs, Radios, Rows, Search, Submit, Text, errorsAt, focusFirst } from "../fields.js";
import { FormOfPreset, parametersOf } from "../form_of_preset.js";
import { Exact } from "../exact.js";
import { Busy, Details, Page, Problem, State, announce } from "../parts.js";
import { NEW_DRAFT, NEW_PARAMETER, TYPES, documentOf, draftOf, formOf, undeclared, findFormErrors } from "../preset_document.js";
import { go, useLeaveQuestion, setQuery } from "../router.js";
import { ago, duration } from "../time.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { idOf } from "../words.js";

/**
 * @typedef {import("../preset_document.js").Draft} Draft
 * @typedef {import("../preset_document.js").Parameter} Parameter
 * @typedef {import("../api.js").Problem} ApiProblem
 * @typedef {import("../form_of_preset.js").Values} Values
 */

const METHODS = ["PUT", "PATCH", "DELETE", "GET"];
/** @type {[string, string][]} */
const TAKES = [["json", "Parameters, which fill in a JSON body"], ["form", "Parameters, which fill in a form"],
  ["text", "Parameters, which fill in XML or another text"], ["payload", "The whole body: only services, editors and admins can send it"]];
/** @type {[string, string][]} */
const FORMATS = [["", "One line"], ["textarea", "Several lines"], ["email", "Email address"], ["url", "URL"], ["phone", "Phone number"]];
const PAUSE = 400;
/** The pointers whose errors fields show. */
const FIELD_POINTERS = ["/id", "/title", "/help", "/description", "/tags", "/integration", "/method", "/url", "/headers", "/parameters", "/body", "/content_type", "/sample"];

/** @param {{ params: { id?: string }, query: URLSearchParams }} props Without an ID, a new preset, or a copy of `?from`. */
export default function PresetFormPage({ params: { id }, query }) {
  const from = id ?? query.get("from");
  const { result, problem } = useCall(from === null ? null : `/presets/${encodeURIComponent(from)}`, undefined, { exact: true });
  const title = id === undefined ? "Add preset" : `Edit ${result?.ok ? result.body.title || id : id}`;
  const crumbs = html`<a href="/ui/presets">Presets</a> / ${id === undefined ? "Add" : html`<a href=${`/ui/presets/${encodeURIComponent(id)}`}>${id}</a> / Edit`}`;
  const loaded = useMemo(() => (result?.ok ? draftOf(result.body) : null), [result]);
  const start = from === null ? NEW_DRAFT : loaded && (id === undefined ? copyOf(loaded) : loaded);
  return html`
    <${Page} title=${title} crumbs=${crumbs}>
      <${Problem} problem=${problem} />
      ${start ? html`<${Form} key=${from ?? ""} from=${id === undefined ? from ?? "" : null} start=${start} etag=${id !== undefined && result?.ok ? result.etag : null} />` : !problem && html`<${Busy} />`}
    <//>
  `;
}

/** @param {{ from: string, disabled: boolean }} props The preset to copy. Disabled once something is typed, which it would replace. */
function StartFrom({ from, disabled }) {
  const { body } = useCall("/presets");
  const ids = new Map((body?.items ?? []).map((/** @type {{ id: string, title: string }} */ { id, title }) => [id, title && title !== id ? `${title} (${id})` : id]));
  if (from !== "" && !ids.has(from)) ids.set(from, from);
  if (ids.size === 0) return null;
  return html`<${Choice} label="Start from" value=${from} disabled=${disabled} onInput=${(/** @type {string} */ id) => setQuery({ from: id })} options=${[["", "An empty form"], ...ids]}
    help=${disabled ? "It would replace what you typed." : body?.next && "Another preset: open it, and choose Duplicate."} />`;
}

/** @param {Draft} draft @returns {Draft} */
function copyOf(draft) {
  const title = `Copy of ${draft.title || draft.id}`;
  return { ...draft, title, id: idOf(title) };
}

/** @param {{ from: string | null, start: Draft, etag: string | null }} props
 * `from`: the preset that a new one copies, or empty. `etag`: the version that is edited. Null: a new preset. */
function Form({ from, start, etag }) {
  const [draft, setDraft] = useState(start);
  const [version, setVersion] = useState(etag);
  const [hasOwnId, setHasOwnId] = useState(etag !== null);
  const [values, setValues] = useState(/** @type {Values} */ ({}));
  const [attempt, setAttempt] = useState(/** @type {{ problem: ApiProblem, id: string } | null} */ (null));
  const [theirs, setTheirs] = useState(/** @type {Version | null} */ (null));
  const [busy, setBusy] = useState(false);
  /** @type {{ current: HTMLFormElement | null }} */
  const form = useRef(null);
  const wrong = useMemo(() => findFormErrors(draft), [draft]);
  const preview = usePreview(draft, values, wrong);
  useLeaveQuestion(() => draft !== start);
  useEffect(() => {
    if (attempt?.problem.code === "invalid") focusFirst(form.current);
  }, [attempt]);

  // The preview has all errors but that of the ID, and follows what is typed.
  const problem = preview.problem ?? (attempt && attempt.problem.code !== "invalid" ? attempt.problem : null);
  const idError = attempt?.id === draft.id ? errorsAt(attempt.problem, "/id") : "";
  const hasWrong = Object.keys(wrong).length > 0;
  /** @param {string} pointer @param {string} [value] An empty field has no error until the person tries to save. */
  const at = (pointer, value = "") => (attempt || value !== "" ? errorsAt(problem, pointer) : "");
  /** @param {Partial<Draft>} changes */
  const change = (changes) => setDraft((previous) => ({ ...previous, ...changes }));
  /** @param {keyof Draft} key */
  const set = (key) => (/** @type {any} */ value) => change({ [key]: value });
  /** @param {string} title */
  const setTitle = (title) => change(hasOwnId ? { title } : { title, id: idOf(title) });

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    if (hasWrong) return setAttempt({ problem: NOT_COMPLETE, id: "" });
    setBusy(true);
    const text = documentOf(draft);
    const path = `/presets/${encodeURIComponent(draft.id)}`;
    const result = await (version === null ? post("/presets", text) : put(path, text, { etag: version }));
    setBusy(false);
    if (result.ok) {
      announce("Saved.");
      return go(`/presets/${encodeURIComponent(draft.id)}`, { skipQuestion: true });
    }
    const theirs = result.problem.code === "changed" ? await savedVersion(path) : null;
    return theirs ? setTheirs(theirs) : setAttempt({ problem: result.problem, id: draft.id });
  };

  const missing = undeclared(draft);
  const hasBody = draft.takes !== "payload";
  return html`
    <form class="columns wide" ref=${form} onSubmit=${submit}>
      <div>
        ${from !== null && html`<${StartFrom} from=${from} disabled=${draft !== start} />`}
        <section class="card pad" aria-labelledby="about">
          <h2 id="about">For people</h2>
          <${Text} label="Title" value=${draft.title} onInput=${setTitle} error=${at("/title", draft.title)} example="Welcome text message" autofocus=${etag === null} />
          <${Text} label="ID" value=${draft.id} required disabled=${etag !== null} error=${idError} help="Requests name it. It cannot change."
            onInput=${(/** @type {string} */ id) => { setHasOwnId(true); change({ id }); }} />
          <${Area} label="Help" rows=${2} value=${draft.help} onInput=${set("help")} error=${at("/help", draft.help)} help="Shown to people who fill it in." />
          <${Details} summary="Description and tags, for operators">
            <${Text} label="Description" value=${draft.description} onInput=${set("description")} error=${at("/description", draft.description)} />
            <${Text} label="Tags" value=${draft.tags} onInput=${set("tags")} error=${at("/tags", draft.tags)} help="Separated by commas." />
          <//>
        </section>
        <section class="card pad" aria-labelledby="request">
          <h2 id="request">Request</h2>
          <${Integration} draft=${draft} change=${change} error=${attempt && draft.integration === "" ? "Choose an integration." : at("/integration", draft.integration)} />
          <${Choice} label="Method" value=${draft.method} onInput=${set("method")} error=${at("/method")}
            options=${methodsFor(draft.method)} />
          <${Text} label="URL" value=${draft.url} onInput=${set("url")} error=${at("/url", draft.url)} required
            help="A path segment or a query value may contain {{name}}, the value of a parameter." />
          <${Pairs} label="Headers" add="Add header" items=${draft.headers} onChange=${set("headers")}
            errors=${(/** @type {number} */ index) => ({ value: at(`/headers/${escaped(draft.headers[index].name)}`, draft.headers[index].name) })} />
          ${wrong.headers && html`<p class="error">${wrong.headers}</p>`}
        </section>
        <section class="card pad" aria-labelledby="body">
          <h2 id="body">Body</h2>
          <${Radios} label="People and services send" value=${draft.takes} onInput=${set("takes")} options=${TAKES} />
          ${draft.takes === "json" && html`<${Area} code label="JSON body" rows=${8} value=${draft.json} onInput=${set("json")} required
            error=${wrong.json ?? at("/body", draft.json)} help="A text that is exactly {{name}} becomes the value with its type." />`}
          ${draft.takes === "form" && html`<${Pairs} label="Fields of the form" add="Add field" items=${draft.form} onChange=${set("form")} />
            <p class="error">${wrong.form ?? at("/body", "form")}</p>`}
          ${draft.takes === "text" && html`<${Area} code label="Text body" rows=${8} value=${draft.text} onInput=${set("text")} required error=${at("/body", draft.text)} />`}
          ${(draft.takes === "text" || draft.takes === "payload") && html`<${Text} label="Content type" value=${draft.content_type} onInput=${set("content_type")}
            required=${draft.takes === "text"} example="application/xml" error=${at("/content_type", draft.content_type) || at("/body/content_type", draft.content_type)} />`}
        </section>
        ${hasBody && html`
          <section class="card pad" aria-labelledby="parameters">
            <h2 id="parameters">Parameters</h2>
            <p class="help">Values that people fill in. {{name}} in URL, headers and body stands for one.</p>
            ${missing.length > 0 && html`<p>The request names ${missing.map((name) => `{{${name}}}`).join(", ")} without a parameter. <button type="button" class="button"
              onClick=${() => change({ parameters: [...draft.parameters, ...missing.map((name) => ({ ...NEW_PARAMETER, name }))] })}
            >Add ${missing.join(", ")}</button></p>`}
            <${Rows} add="Add parameter" items=${draft.parameters} empty=${NEW_PARAMETER} onChange=${set("parameters")}
              row=${(/** @type {Parameter} */ parameter, /** @type {(parameter: Parameter) => void} */ set) => html`<${ParameterRow} parameter=${parameter} change=${set} at=${at} />`} />
            ${wrong.parameters && html`<p class="error">${wrong.parameters}</p>`}
          </section>
        `}
        <${Problem} problem=${attempt && (hasWrong ? NOT_COMPLETE : problem?.code === "invalid" ? { ...NOT_COMPLETE, errors: problem.errors } : problem)} fieldPointers=${FIELD_POINTERS} />
        ${theirs && html`<${Conflict} theirs=${theirs} draft=${draft}
          useTheirs=${() => { setDraft(theirs.draft); setVersion(theirs.etag); setTheirs(null); }}
          useMine=${() => { setVersion(theirs.etag); setTheirs(null); }} />`}
        <div class="actions"><${Submit} busy=${busy}>Save<//><a class="button" href="/ui/presets">Cancel</a></div>
      </div>
      <${Preview} draft=${draft} values=${values} setValues=${setValues} preview=${preview} wrong=${wrong} />
    </form>
  `;
}

/** @param {string} method POST is the default, which a document need not name. */
const methodsFor = (method) => [[method === "POST" ? method : "", "POST"], ...METHODS, ...(["", "POST", ...METHODS].includes(method) ? [] : [method])];

/** @type {ApiProblem} */
const NOT_COMPLETE = { code: "invalid", title: "Not saved", detail: "Correct the marked fields first.", errors: [] };

/** @param {{ draft: Draft, change: (changes: Partial<Draft>) => void, error: string }} props */
function Integration({ draft, change, error }) {
  const [q, setQ] = useState("");
  const { body, problem } = useCall("/integrations", { q });
  /** @type {{ id: string, title?: string, status: string, problem: string | null, base: string | null }[]} */
  const items = body?.items ?? [];
  const proposed = useRef("");
  const chosen = items.some(({ id }) => id === draft.integration) ? [] : [[draft.integration, draft.integration || "Choose…"]];
  const options = items.map(({ id, title, status, problem: reason }) => [id, title && title !== id ? `${title} (${id})` : id, status === "unusable" ? reason ?? "cannot be used" : undefined]);
  /** @param {string} id */
  const choose = (id) => {
    const isTyped = draft.url !== "" && draft.url !== proposed.current;
    proposed.current = items.find((item) => item.id === id)?.base ?? "";
    change({ integration: id, url: isTyped ? draft.url : proposed.current });
  };
  return html`
    ${(q !== "" || body?.next) && html`<${Search} label="Find an integration" value=${q} onInput=${setQ} />`}
    <${Problem} problem=${problem} />
    <${Choice} label="Integration" value=${draft.integration} onInput=${choose} required error=${error} options=${[...chosen, ...options]}
      help="It adds the credential and decides where requests may go." />
  `;
}

/** @param {{ parameter: Parameter, change: (parameter: Parameter) => void, at: (pointer: string, value: string) => string }} props */
function ParameterRow({ parameter, change, at: errorAt }) {
  const { name, type, required } = parameter;
  const pointer = `/parameters/${escaped(name)}`;
  /** @param {string} where */
  const at = (where) => errorAt(where, name);
  /** @param {keyof Parameter} key */
  const set = (key) => (/** @type {any} */ value) => change({ ...parameter, [key]: value });
  const more = ["max_length", "enum", "help", "example", "format", "title"].some((key) => at(`${pointer}/${key}`));
  const error = ["type", "required", "default"].every((key) => !at(`${pointer}/${key}`)) && !more ? at(pointer) : "";
  return html`
    <div class="row">
      <div class="grow"><${Text} label="Name" value=${name} onInput=${set("name")} required error=${error} /></div>
      <div class="grow"><${Text} label="Label" value=${parameter.title} onInput=${set("title")} error=${at(`${pointer}/title`)} /></div>
      <div class="type"><${Choice} label="Type" value=${type} options=${Object.entries(TYPES)} error=${at(`${pointer}/type`)}
        onInput=${(/** @type {Parameter["type"]} */ next) => change({ ...parameter, type: next, required: next !== "boolean" && required, format: "", max_length: "" })} /></div>
    </div>
    ${type !== "boolean" && html`<${Check} label="Required" value=${required} onInput=${set("required")} />`}
    ${!required && (type === "boolean"
      ? html`<${Check} label="Ticked at first" value=${parameter.default === "true"} onInput=${(/** @type {boolean} */ value) => set("default")(String(value))} />`
      : html`<${Text} label="If it is left empty" value=${parameter.default} onInput=${set("default")} error=${at(`${pointer}/default`) || at(`${pointer}/required`)} />`)}
    <${Details} summary="Help, example, allowed values" open=${more}>
      <${Text} label="Help" value=${parameter.help} onInput=${set("help")} error=${at(`${pointer}/help`)} />
      ${type !== "boolean" && html`
        <${Text} label="Example" value=${parameter.example} onInput=${set("example")} error=${at(`${pointer}/example`)} />
        <${Area} label="Allowed values, one a line" rows=${3} value=${parameter.enum} onInput=${set("enum")} error=${at(`${pointer}/enum`)} />`}
      ${type === "text" && html`
        <${Choice} label="Input" value=${parameter.format} options=${FORMATS} onInput=${set("format")} error=${at(`${pointer}/format`)} />
        <${Text} type="number" label="Most characters" value=${parameter.max_length} onInput=${set("max_length")} error=${at(`${pointer}/max_length`)} />`}
    <//>
  `;
}

/** @typedef {{ request: any, credential: any, code: string | null, reason: string | null }} PreviewResult */
/** @typedef {{ response: PreviewResult | null, problem: ApiProblem | null }} PreviewState */

/** @type {PreviewState} */
const NOT_KNOWN = { response: null, problem: null };

/** @param {Draft} draft @param {Values} values @param {object} wrong @returns {PreviewState} */
function usePreview(draft, values, wrong) {
  const [state, setState] = useState(NOT_KNOWN);
  useEffect(() => {
    if (Object.keys(wrong).length > 0) return setState(NOT_KNOWN);
    const controller = new AbortController();
    const timer = window.setTimeout(async () => {
      const result = await post("/drafts/preset/preview", trialOf(draft, values), { signal: controller.signal });
      if (controller.signal.aborted) return;
      setState(result.ok ? { response: result.body, problem: null } : { response: null, problem: result.problem });
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [draft, values]);
  return state;
}

/** @param {Draft} draft @param {Values} values The draft with sample values. Examples replace empty ones. */
function trialOf(draft, values) {
  const form = formOf(draft);
  const sample = form.takes === "payload"
    ? "" in values && { payload: values[""] }
    : { parameters: new Exact(parametersOf(form, { ...examplesOf(form), ...values })) };
  return documentOf(draft, { id: draft.id || undefined, sample: sample || undefined });
}

/** @param {import("../form_of_preset.js").Form} form @returns {Values} */
function examplesOf({ parameters }) {
  /** @param {import("../form_of_preset.js").Parameter} parameter */
  const example = ({ name, type, example: ownExample, default: fallback, enum: choices, max_length: length }) => {
    const value = ownExample ?? fallback ?? choices?.[0];
    if (type === "boolean") return value === true;
    if (value !== null && value !== undefined && value !== "") return String(value);
    return type === "number" ? "1.5" : fallback === "" ? "" : name.slice(0, length ?? undefined);
  };
  return Object.fromEntries(parameters.map((parameter) => [parameter.name, example(parameter)]));
}

/** @param {{ draft: Draft, values: Values, setValues: (values: Values) => void, preview: PreviewState, wrong: object }} props */
function Preview({ draft, values, setValues, preview, wrong }) {
  const form = formOf(draft);
  const [result, setResult] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const { response, problem } = preview;
  const test = async () => {
    setBusy(true);
    setResult(null);
    setResult(await post("/drafts/preset/test", trialOf(draft, values)));
    setBusy(false);
  };
  const errors = Object.fromEntries(form.parameters.map(({ name }) => [name, errorsAt(problem, `/sample/parameters/${escaped(name)}`)]));
  const request = response?.request;
  return html`
    <aside class="preview" aria-label="Preview">
      <section class="card pad" aria-labelledby="seen">
        <h2 id="seen">${form.takes === "payload" ? "What an editor sees" : "What a sender sees"}</h2>
        <p class="strong"><bdi>${form.title || "No title yet"}</bdi></p>
        ${form.help && html`<p><bdi>${form.help}</bdi></p>`}
        ${form.takes === "parameters" && form.parameters.length === 0 && html`<p class="help">No parameters: there is nothing to fill in.</p>`}
        <${FormOfPreset} form=${form} values=${{ ...examplesOf(form), ...values }} errors=${errors}
          onInput=${(/** @type {string} */ name, /** @type {string | boolean} */ value) => setValues({ ...values, [name]: value })} />
      </section>
      <section class="card pad" aria-labelledby="sent">
        <h2 id="sent">What Sidekey sends</h2>
        ${Object.keys(wrong).length > 0 && html`<p class="help">Shown once the marked fields are right.</p>`}
        ${problem && html`<p class="help">${problem.code === "invalid" ? `Shown once these are right: ${partsIn(problem)}.` : problem.detail}</p>`}
        ${response && !request && html`<p class="error">${response.reason}</p>`}
        ${request && html`
          <pre>${textOf(request)}</pre>
          <p class="help">This is a real request. The service may act on it. It counts as one of your sends.</p>
          <button type="button" class="button" aria-disabled=${busy ? "true" : undefined} onClick=${busy ? undefined : test}>Send a test</button>
        `}
        ${result && html`<div role="status">${result.ok ? html`<${Tested} result=${result.body} />` : html`<${Problem} problem=${result.problem} />`}</div>`}
      </section>
    </aside>
  `;
}

/** @param {ApiProblem} problem The parts of the form that have errors, in the words of their labels. */
function partsIn({ errors }) {
  const keys = errors.map(({ pointer }) => pointer.split("/")[1]?.replace("_", " ") ?? "");
  return [...new Set(keys)].map((key) => ({ url: "URL", id: "ID", sample: "the values above" })[key] ?? key).join(", ");
}

/** @param {{ method: string, url: string, headers: [string, string][], body: string }} request */
function textOf({ method, url, headers, body }) {
  return [`${method} ${url}`, ...headers.map(([name, value]) => `${name}: ${value}`), "", body].join("\n");
}

/** @param {{ result: { ok: boolean, status: number | null, code: string | null, reason: string, milliseconds: number } }} props */
function Tested({ result: { ok, status, code, reason, milliseconds } }) {
  return html`<p><${State} status=${ok ? "accepted" : "refused"} text=${`${status ?? code ?? "No response"} in ${duration(milliseconds)}`} /></p><p>${reason}</p>`;
}

/** @typedef {{ draft: Draft, by: string, at: string, etag: string | null }} Version */

/** @param {string} path @returns {Promise<Version | null>} The version that somebody else has saved. Null: it cannot be read. */
async function savedVersion(path) {
  const result = await get(path, { exact: true });
  return result.ok ? { draft: draftOf(result.body), by: result.body.updated_by, at: result.body.updated_at, etag: result.etag } : null;
}

/** @param {{ theirs: Version, draft: Draft, useMine: () => void, useTheirs: () => void }} props */
function Conflict({ theirs, draft, useMine, useTheirs }) {
  const lines = diff(documentOf(theirs.draft, {}, "  "), documentOf(draft, {}, "  "));
  return html`
    <div class="banner" role="alert">
      <p><strong><bdi>${theirs.by}</bdi> saved this ${ago(theirs.at)}.</strong> Lines with - are theirs, lines with + are yours.</p>
      <pre>${lines.map(({ sign, text }) => `${sign} ${text}\n`).join("")}</pre>
      <div class="actions">
        <button type="button" class="button" onClick=${useMine}>Use mine</button>
        <button type="button" class="button" onClick=${useTheirs}>Use theirs</button>
      </div>
    </div>
  `;
}

/** @param {string} name A reference token of a JSON pointer (RFC 6901). */
const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");
