// Add a caller, and change what it may use.
import { post, put, useCall } from "../api.js";
import { Radios, Submit, errorsAt, focusFirst } from "../fields.js";
import { Name, Picker, showToken } from "../grants.js";
import { Loading, Page, Problem, showNotice } from "../parts.js";
import { go, useLeaveQuestion } from "../router.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";

/** @typedef {"*" | string[]} Granted All, or some by their IDs. */
/** @typedef {{ name: string, integrations: Granted, presets: Granted }} Caller */

/** @type {Caller} */
const NEW = { name: "", integrations: [], presets: [] };

/** @param {{ params: { name?: string } }} props Without a name, a new caller. */
export default function CallerPage({ params: { name } }) {
  const { result, problem } = useCall(name === undefined ? null : `/callers/${encodeURIComponent(name)}`);
  const title = name === undefined ? "Add caller" : `What ${name} may use`;
  const crumbs = html`<a href="/ui/access?tab=callers">Access</a> / ${name ?? "Add"}`;
  const loaded = name === undefined ? NEW : result?.ok && result.body;
  return html`
    <${Page} title=${title} crumbs=${crumbs}>
      ${loaded
        ? html`<${Form} key=${name ?? ""} loaded=${loaded} etag=${result?.ok ? result.etag : null} isNew=${name === undefined} />`
        : html`<${Loading} problem=${problem} />`}
    <//>
  `;
}

/** @param {{ loaded: Caller, etag: string | null, isNew: boolean }} props */
function Form({ loaded, etag, isNew }) {
  const [caller, setCaller] = useState(loaded);
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const [busy, setBusy] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  useLeaveQuestion(() => caller !== loaded);
  useEffect(() => {
    if (problem?.code === "invalid") focusFirst(form.current);
  }, [problem]);

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const { name, integrations, presets } = caller;
    const body = { name, integrations, presets };
    const result = await (isNew ? post("/callers", body) : put(`/callers/${encodeURIComponent(name)}`, body, { etag }));
    setBusy(false);
    if (!result.ok) return setProblem(result.problem);
    if (isNew) await showToken(name, result.body.token, "caller");
    showNotice("Saved.");
    go("/access?tab=callers", { skipQuestion: true });
  };

  return html`
    <form class="limited" ref=${form} onSubmit=${submit}>
      <p>A caller is a service that sends requests through Sidekey. It needs only the preset to use one, not its integration.</p>
      ${isNew && html`<${Name} error=${errorsAt(problem, "/name")} onInput=${(/** @type {string} */ name) => setCaller({ ...caller, name })} />`}
      ${/** @type {const} */ (["presets", "integrations"]).map((kind) => html`
        <${Grant} key=${kind} kind=${kind} granted=${caller[kind]} error=${errorsAt(problem, `/${kind}`)}
          onChange=${(/** @type {Granted} */ granted) => setCaller({ ...caller, [kind]: granted })} />`)}
      <${Problem} problem=${problem} fieldPointers=${["/name", "/integrations", "/presets"]} />
      <div class="actions"><${Submit} busy=${busy}>${isNew ? "Add caller" : "Save"}<//><a class="button" href="/ui/access?tab=callers">Cancel</a></div>
    </form>
  `;
}

/** @param {{ kind: "presets" | "integrations", granted: Granted, error: string, onChange: (granted: Granted) => void }} props */
function Grant({ kind, granted, error, onChange }) {
  const label = kind === "presets" ? "Presets" : "Integrations";
  const isAll = granted === "*";
  // Kept while all are granted.
  const [ids, setIds] = useState(isAll ? [] : granted);
  return html`
    <${Radios} label=${label} value=${isAll ? "all" : "some"} error=${isAll ? error : ""}
      options=${[["some", `Only the chosen ${kind}`], ["all", `All ${kind}, also those that are added later`]]}
      onInput=${(/** @type {string} */ value) => onChange(value === "all" ? "*" : ids)} />
    ${!isAll && html`<${Picker} kind=${kind} label=${`Which ${kind}`} chosen=${granted} error=${error}
      onChange=${(/** @type {string[]} */ chosen) => {
        setIds(chosen);
        onChange(chosen);
      }} />`}
  `;
}
