// Add and change an integration: a form, or its document as YAML.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { get, post, put } from "../api.js";
import { errorsAt, focusFirst, Submit } from "../fields.js";
import { Busy, Details, Loading, Page, Problem, Tabs, showNotice, announce } from "../parts.js";
import { go, here, hrefWith, useLeaveQuestion } from "../router.js";
import { idOf, kindName, sentence, testWords } from "../words.js";
import { toYaml } from "../yaml.js";
import { Advanced, Conflict, confirmChanges } from "../forms/advanced.js";
import { documentOf, inOrder, isSame, isStored, leaves, merge, withoutSecrets } from "../forms/document.js";
import { FieldInput } from "../forms/inputs.js";
import { Notes, TestBanner, noteSave } from "../integration_parts.js";
import { fieldsOf, isDesigned, nextId, RESPONSYS_ADVICE, suggestedTest } from "../forms/kinds.js";
import { EMPTY_HEADER, canShow, unshownPaths, loadValues, pointersOf, rowErrors, saveValues, valueError } from "../forms/model.js";
import { destinationText, errorText } from "../forms/sentences.js";

/**
 * @typedef {import("../api.js").Problem} ApiProblem
 * @typedef {import("../api.js").ItemError} ItemError
 * @typedef {import("../forms/model.js").Field} Field
 * @typedef {import("../forms/kinds.js").Provider} Provider
 * @typedef {{ id: string | null, kind: string, provider: Provider | null, document: any, etag: string | null,
 *   fields: Field[] }} Start `id`: null for a new integration. `fields`: empty if only Advanced can show the document.
 */

const YAML = { headers: { "Content-Type": "application/yaml" } };
const EXACT = { exact: true };
const UNCHECKED = { errors: [], warnings: [], reenter: [], certificate: null, destination: null };
const TAKEN = "another integration has this ID: choose another one";

/** @param {any} document */
const yamlOf = (document) => toYaml(inOrder(document));

/** @param {{ params: Record<string, string>, query: URLSearchParams }} props */
export default function FormPage({ params, query }) {
  /** @type {[{ start?: Start, problem?: ApiProblem, missing?: string }, (loaded: any) => void]} */
  const [loaded, setLoaded] = useState({});
  const [turn, setTurn] = useState(0);
  const provider = query.get("provider") ?? "";
  const source = query.get("from") ?? "";
  useEffect(() => {
    let isCurrent = true;
    setLoaded({});
    loadStart(params.id ?? null, params.kind, provider, source).then((result) => isCurrent && setLoaded(result));
    return () => {
      isCurrent = false;
    };
  }, [params.id, params.kind, provider, source, turn]);
  const title = params.id ? `Edit ${params.id}` : "Add integration";
  if (loaded.start !== undefined) return html`<${Editor} key=${turn} start=${loaded.start} again=${() => setTurn(turn + 1)} />`;
  return html`
    <${Page} title=${title}>
      ${loaded.missing
        ? html`<p>${loaded.missing} <a href="/ui/integrations">All integrations</a></p>`
        : html`<${Loading} problem=${loaded.problem ?? null} again=${() => setTurn(turn + 1)} />`}
    <//>
  `;
}

/**
 * Load the document and the fields of a form.
 * @param {string | null} id @param {string} kind @param {string} provider @param {string} source The ID of an integration to copy, or empty.
 * @returns {Promise<{ start: Start } | { problem: ApiProblem } | { missing: string }>}
 */
async function loadStart(id, kind, provider, source) {
  const from = id ?? source;
  if (from === "") return describe({ id: "", auth: { type: kind, ...(provider && { provider }) } }, null, null);
  const result = await get(`/integrations/${encodeURIComponent(from)}`, EXACT);
  if (!result.ok) return result.problem.code === "not_found" ? { missing: `There is no integration ${from}.` } : result;
  if (id !== null && result.body.source === "file") return { missing: `${id} is set in a config file. Change it there.` };
  if (!result.body.auth) return { missing: `The document of ${from} cannot be read: ${result.body.problem}. Delete it, and add it again.` };
  const document = documentOf(result.body);
  if (id !== null) return describe(document, id, result.etag);
  const title = document.title && { title: `${document.title} (copy)` };
  return describe({ ...withoutSecrets(document), id: `${source.slice(0, 58)}-copy`, ...title }, null, null);
}

/** @param {any} document @param {string | null} id @param {string | null} etag */
async function describe(document, id, etag) {
  const { type: kind, provider: name = "" } = document.auth;
  const designed = isDesigned(kind, name);
  /** @type {Provider | null} */
  let provider = null;
  if (name !== "") {
    const providers = await get("/providers", { query: { q: name } });
    if (!providers.ok) return providers;
    provider = providers.body.items.find((/** @type {Provider} */ item) => item.provider === name && item.kind === kind) ?? null;
    if (provider === null) return { missing: `There is no provider ${name} of this kind.` };
  }
  const template = designed ? null : await get(`/kinds/${encodeURIComponent(kind)}/template`, { query: { provider: name } });
  if (template?.ok === false) return template.problem.code === "not_found" ? { missing: `There is no kind ${kind}.` } : template;
  const fields = fieldsOf(kind, provider, template?.body.fields ?? []);
  const values = loadValues(fields, document);
  const needed = fields.filter(({ isUsed }) => isUsed?.(values) !== false);
  const isOfAnotherShape = id !== null && !designed && provider === null && needed.some((field) => lacks(values, field));
  return { start: { id, kind, provider, document, etag, fields: isOfAnotherShape ? [] : fields } };
}

/** @param {import("../forms/model.js").Values} values @param {Field} field Return True if a required value is not where the field looks for it. */
function lacks(values, field) {
  const value = values[field.key];
  const isRequired = field.required && field.path[0] === "auth" && ["text", "secret", "pem"].includes(field.type);
  return isRequired && (value === "" || (value.stored === null && value.text === ""));
}

/** @param {Start} start @returns {import("../forms/model.js").Values} The values that a form begins with. */
function firstValues({ id, provider, document, fields }) {
  const values = loadValues(fields, document);
  if (id !== null) return values;
  for (const { key, start } of fields) if (start !== undefined && values[key] === "") values[key] = start;
  if (provider !== null && values.title === "") Object.assign(values, { title: provider.title, id: values.id || idOf(provider.title) });
  const suggestion = suggestedTest(provider);
  if (suggestion !== null && values.test.path === "") values.test = suggestion;
  if (values.headers?.length === 0) values.headers = [{ ...EMPTY_HEADER, name: "Authorization", prefix: "Bearer " }];
  return values;
}

/** @param {{ start: Start, again: () => void }} props `again`: load everything again, and drop what was typed. */
function Editor({ start, again }) {
  const { id, kind, provider, fields } = start;
  const isNew = id === null;
  const [base, setBase] = useState({ document: start.document, etag: start.etag });
  const [initial] = useState(() => firstValues(start));
  const [values, setValues] = useState(initial);
  const [idTyped, setIdTyped] = useState(!isNew);
  /** The text in Advanced. Null: that of the document. */
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [preview, setPreview] = useState(/** @type {any} */ (null));
  const [attempted, setAttempted] = useState(false);
  const [problem, setProblem] = useState(/** @type {ApiProblem | null} */ (null));
  const [tested, setTested] = useState(/** @type {any} */ (null));
  const testedBody = useRef("");
  const [conflict, setConflict] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  // A person who has declined to log in is asked again only when they save or test.
  const loggedOut = useRef(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const [focus, setFocus] = useState({ on: isNew ? "first" : here.value.query.get("focus") ?? "" });

  const document = saveValues(fields, base.document, values);
  const isChanged = text !== null || (isNew ? !isSame(values, initial) : !isSame(document, base.document));
  const wantsAdvanced = here.value.query.get("tab") === "advanced" || fields.length === 0;
  const isAdvanced = wantsAdvanced || text !== null;
  useLeaveQuestion(() => isChanged && !busy);

  const body = isAdvanced ? text ?? yamlOf(document) : JSON.stringify(document.id === "" ? { ...document, id: undefined } : document);
  const options = isAdvanced ? YAML : {};
  /** @param {AbortSignal} [signal] @returns {Promise<ItemError[]>} Check what was typed, and return its errors. */
  const check = async (signal) => {
    const result = await post("/drafts/integration/preview", body, { ...options, signal });
    if (signal?.aborted) return [];
    loggedOut.current = result.status === 401;
    // Text that is no YAML has errors, too. Other problems, such as a lost connection, are said when something is saved.
    const checked = result.ok ? result.body : result.problem.code === "malformed" ? { ...UNCHECKED, errors: result.problem.errors } : null;
    if (checked !== null) setPreview({ ...checked, body, values });
    return checked?.errors ?? [];
  };
  useEffect(() => {
    if (loggedOut.current) return undefined;
    const controller = new AbortController();
    const timer = setTimeout(() => check(controller.signal), 400);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [body, isAdvanced]);

  useEffect(() => {
    if (focus.on === "test") /** @type {HTMLElement | null | undefined} */ (form.current?.querySelector("[data-test-path] input"))?.focus();
    else if (focus.on === "first") focusFirst(form.current);
  }, [focus]);

  const lastCheck = preview ?? UNCHECKED;
  const isTaken = isNew && Boolean(lastCheck.version);
  useEffect(() => {
    // An ID that the form proposed makes way for a free one.
    if (isTaken && !idTyped && !isAdvanced) setValues((/** @type {any} */ previous) => ({ ...previous, id: nextId(previous.id) }));
  }, [preview]);
  const taken = isTaken ? [{ pointer: "/id", detail: TAKEN }] : [];
  // Secrets that somebody else has replaced are errors until the person has chosen.
  /** @type {ItemError[]} */
  const errors = (conflict ? [] : [...lastCheck.errors, ...taken]).map((error) => ({ ...error, detail: isAdvanced ? error.detail : errorText(error.detail) }));
  const context = {
    errors,
    again: lastCheck.reenter,
    fields,
    isNew,
    attempted,
    isChecked: lastCheck.body === body,
    certificate: lastCheck.certificate,
    base: lastCheck.destination?.base ?? null,
    allowed: lastCheck.destination?.learns === false ? lastCheck.destination.allowed : [],
    suggestion: suggestedTest(provider),
    example: suggestedTest(provider)?.path ?? "/me",
  };
  /** @param {Field} field */
  const errorOf = (field) => {
    // The check may be older than what was typed: an empty field that was checked is no error of a text in it.
    if (!attempted && isSame((lastCheck.values ?? initial)[field.key], initial[field.key])) return "";
    if (field.key === "test" && tested === "missing" && values.test.path === "") return `Add a request to test with, such as GET ${context.example}.`;
    if (field.key === "id" && values.id === "") return attempted ? "Fill this in." : "";
    // The input for a new secret or domain has just been opened.
    const { replacing, by, isOn, items } = values[field.key];
    if (!attempted && ((replacing && values[field.key][by] === "") || (isOn && items.join("") === ""))) return "";
    return pointersOf(field).map((pointer) => errorsAt({ errors }, pointer)).filter(Boolean).join(" ");
  };
  /** @param {Field} field @param {any} value */
  const change = (field, value) => {
    setProblem(null);
    setTested(null);
    if (field.key === "id") setIdTyped(value !== "");
    const derived = field.key === "title" && !idTyped ? { id: idOf(value) } : {};
    setValues((/** @type {any} */ previous) => ({ ...previous, ...derived, [field.key]: value }));
  };

  /** @param {import("../api.js").Failure} result */
  const showRefusal = async ({ problem: refused }) => {
    setAttempted(true);
    if (refused.code === "changed") return showConflict();
    if (refused.code === "exists") refused = { ...refused, title: "The ID is in use", errors: isTaken ? lastCheck.errors : [...lastCheck.errors, { pointer: "/id", detail: TAKEN }] };
    if (refused.errors.length > 0) {
      const key = refused.code === "reenter" ? "reenter" : "errors";
      setPreview({ ...lastCheck, [key]: refused.errors });
    }
    setProblem(refused);
    setFocus({ on: "first" });
    announce(`${refused.title}.`);
  };

  /** Somebody else has saved the integration. */
  const showConflict = async () => {
    const result = await get(`/integrations/${id}`, EXACT);
    if (!result.ok) return setProblem(result.problem);
    setConflict({ theirs: documentOf(result.body), etag: result.etag, by: result.body.updated_by, at: result.body.updated_at });
  };

  const canMerge = conflict?.theirs.auth?.type === kind && conflict.theirs.auth.provider === base.document.auth.provider;
  const merged = () => (canMerge ? merge(base.document, document, conflict.theirs) : document);
  const useMine = () => {
    const { theirs, etag } = conflict;
    if (!isAdvanced) {
      const stored = loadValues(fields, theirs);
      const mine = loadValues(fields, merged());
      // A secret that was typed here can still be put back.
      for (const { key, type } of fields) {
        if (["secret", "pem"].includes(type) && mine[key].stored === null) mine[key] = { ...mine[key], stored: stored[key].stored };
      }
      setValues(mine);
    }
    setBase({ document: theirs, etag });
    setConflict(null);
  };

  /** @returns {Promise<any>} The integration as it is saved, or null. */
  const saveDocument = async () => {
    setProblem(null);
    setConflict(null);
    const rows = isAdvanced ? [] : fields.filter(({ type }) => type === "headers" || type === "parameters");
    if (rows.some(({ key }) => [...rowErrors(values[key]), ...values[key].map(valueError)].some(Boolean)) || (!isAdvanced && values.id === "")) {
      setAttempted(true);
      setFocus({ on: "first" });
      announce("Not saved: check the fields.");
      return null;
    }
    if (isAdvanced && (await check()).length > 0) {
      setProblem(NOT_SAVED);
      announce("Not saved: correct the errors.");
      return null;
    }
    if (!isNew && isAdvanced && !(await confirmChanges(yamlOf(base.document), body))) return null;
    setBusy(true);
    const result = isNew ? await post("/integrations", body, options) : await put(`/integrations/${id}`, body, { ...options, etag: base.etag });
    setBusy(false);
    loggedOut.current = result.status === 401;
    if (!result.ok) {
      await showRefusal(result);
      return null;
    }
    showNotice("Saved.");
    noteSave(result.body, tested?.ok === true && testedBody.current === JSON.stringify(body));
    return result.body;
  };

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy) return;
    const saved = await saveDocument();
    if (saved !== null) await go(`/integrations/${saved.id}`, { skipQuestion: true });
  };

  const hasStored = isAdvanced ? /\bset: *true\b/.test(body) : leaves(document).some(([, value]) => isStored(value));
  const test = async () => {
    setProblem(null);
    if (!isAdvanced && values.test.path === "") {
      setTested("missing");
      setAttempted(true);
      setFocus({ on: "test" });
      return;
    }
    if (hasStored && isChanged) return setTested("save");
    setTested("running");
    await sendTest(hasStored);
  };
  /** @param {boolean} isSaved */
  const sendTest = async (isSaved) => {
    testedBody.current = JSON.stringify(body);
    const result = isSaved ? await post(`/integrations/${id}/test`, undefined) : await post("/drafts/integration/test", body, options);
    loggedOut.current = result.status === 401;
    setTested(result.ok ? result.body : null);
    if (!result.ok) return showRefusal(result);
    announce(testWords(result.body).text);
  };
  const saveAndTest = async () => {
    if ((await saveDocument()) === null) return;
    // From here on, the form edits the saved version.
    const saved = await get(`/integrations/${id}`, EXACT);
    if (!saved.ok) return setProblem(saved.problem);
    const document = documentOf(saved.body);
    setBase({ document, etag: saved.etag });
    setValues(loadValues(fields, document));
    setText(null);
    setTested("running");
    await sendTest(true);
  };

  const name = isNew ? provider?.title ?? kindName(kind) : base.document.title || id;
  const more = unshownPaths(fields, document).length;
  const unshownFields = fields.filter((field) => !canShow(field, base.document));
  const visibleFields = fields.filter((field) => !(field.key === "id" && !isNew) && !unshownFields.includes(field) && field.isUsed?.(values) !== false);
  const optionalFields = visibleFields.filter(({ isOptional }) => isOptional);
  /** @param {Field} field */
  const input = (field) => html`<${FieldInput} key=${field.key} field=${field} value=${values[field.key]} context=${context}
    error=${errorOf(field)} change=${(/** @type {any} */ value) => change(field, value)} />`;
  return html`
    <${Page} title=${isNew ? `Add: ${name}` : `Edit ${name}`}
      crumbs=${html`<a href="/ui/integrations">Integrations</a> / ${isNew ? html`<a href="/ui/add/integrations">Add</a>` : html`<a href=${`/ui/integrations/${id}`}>${name}</a>`}`}
      actions=${html`<button type="button" class="button" onClick=${test} aria-disabled=${tested === "running"}>Test integration</button>`}>
      ${fields.length > 0 && html`<${Tabs} items=${[["form", "Form"], ["advanced", "Advanced"]]} value=${isAdvanced ? "advanced" : "form"} label="Form or YAML" />`}
      ${text !== null && !wantsAdvanced && html`
        <div class="banner" role="alert"><p>Save or discard this text to go back to the form.
          ${" "}<button type="button" class="button" onClick=${() => setText(null)}>Discard</button></p></div>`}
      ${conflict && html`<${Conflict} by=${conflict.by} at=${conflict.at} theirs=${yamlOf(conflict.theirs)} mine=${isAdvanced ? body : yamlOf(merged())}
        isForm=${!isAdvanced} useMine=${canMerge && useMine} useTheirs=${again} />`}
      <${Refused} problem=${problem} isForm=${!isAdvanced} fieldPointers=${isAdvanced ? errors.map(({ pointer }) => pointer) : fields.flatMap(pointersOf)} />
      <${Tested} tested=${tested} isChanged=${isChanged} saveAndTest=${saveAndTest} />
      <div class="beside">
      ${!isAdvanced && html`<${Advice} kind=${kind} provider=${provider} />`}
      <form ref=${form} onSubmit=${submit} novalidate>
        ${isAdvanced
          ? html`<${Advanced} text=${body} errors=${[...errors, ...lastCheck.reenter]} warnings=${lastCheck.warnings}
              onInput=${(/** @type {string} */ typed) => {
                setProblem(null);
                setTested(null);
                setText(typed === yamlOf(document) ? null : typed);
              }} />`
          : html`
            ${visibleFields.filter(({ isOptional, type }) => !isOptional && type !== "test").map(input)}
            ${optionalFields.length > 0 && html`<${Details} summary="Optional" open=${optionalFields.some((field) => errorOf(field) !== "" || initial[field.key] !== "")}>${optionalFields.map(input)}<//>`}
            ${visibleFields.filter(({ type }) => type === "test").map(input)}
            ${more + unshownFields.length > 0 && html`<p class="help">${more + unshownFields.length} more ${more + unshownFields.length === 1 ? "setting" : "settings"} under <a href=${hrefWith({ tab: "advanced" })}>Advanced</a>.</p>`}
          `}
        <div class="goes">
          <${Submit} busy=${busy}>Save<//>
          <${DestinationNote} kind=${kind} preview=${lastCheck} warnings=${isAdvanced ? [] : lastCheck.warnings} fields=${fields} />
        </div>
      </form>
      </div>
    <//>
  `;
}

/** @type {ApiProblem} */
const NOT_SAVED = { code: "invalid", title: "Not saved", detail: "correct the errors below", errors: [] };

/** @type {Record<string, string>} What to do in a form, whose fields show the errors. */
const IN_A_FORM = {
  invalid: "Check the fields that are marked.",
  exists: "Check the fields that are marked.",
  reenter: "A stored secret goes only where it was entered for.",
};

/** @param {{ problem: ApiProblem | null, isForm: boolean, fieldPointers: string[] }} props */
function Refused({ problem, isForm, fieldPointers }) {
  if (problem === null) return null;
  const { code, presets } = problem;
  const text = isForm && IN_A_FORM[code] ? IN_A_FORM[code] : problem.detail;
  const detail = presets?.length ? `Presets use it: ${presets.join(", ")}. ${text}` : text;
  return html`<${Problem} problem=${{ ...problem, detail }} fieldPointers=${fieldPointers} />`;
}

/** @param {{ kind: string, provider: Provider | null }} props */
function Advice({ kind, provider }) {
  if (kind === "responsys") return html`<aside class="card pad"><p>${RESPONSYS_ADVICE}</p></aside>`;
  if (provider === null) return null;
  return html`<aside class="card pad"><h2>About ${provider.title}</h2><${Notes} ...${provider} /></aside>`;
}

/** @param {{ tested: any, isChanged: boolean, saveAndTest: () => void }} props */
function Tested({ tested, isChanged, saveAndTest }) {
  if (tested === null || tested === "missing") return null;
  if (tested === "running") return html`<${Busy} text="Testing…" />`;
  if (tested === "save") {
    return html`<div class="banner"><p>Save first: a stored secret is only used for what is saved.
      ${" "}<button type="button" class="button" onClick=${saveAndTest}>Save and test</button></p></div>`;
  }
  return html`<${TestBanner} result=${tested}>${isChanged && "This is not saved yet."}<//>`;
}

/** @param {{ kind: string, preview: any, warnings: ItemError[], fields: Field[] }} props
 * Always visible: where the credential goes, and what is risky. */
function DestinationNote({ kind, preview: { destination, reenter }, warnings, fields }) {
  if (destination === null && reenter.length + warnings.length === 0) return null;
  const again = reenter.map((/** @type {any} */ { pointer }) => fields.find((field) => pointersOf(field).some((place) => pointer === place || pointer.startsWith(`${place}/`))));
  const names = [...new Set(again.map((/** @type {Field | undefined} */ field) => field?.label ?? "a secret"))];
  return html`
    <div>
      ${destination !== null && html`<p>Where the ${kind === "oauth2" ? "access token" : "credential"} goes: ${destinationText(destination)}.</p>`}
      ${names.length > 0 && html`<p class="warned">Enter again: ${names.join(", ")}.</p>`}
      ${warnings.map(({ detail }) => html`<p class="warned">${sentence(errorText(detail))}</p>`)}
    </div>
  `;
}
