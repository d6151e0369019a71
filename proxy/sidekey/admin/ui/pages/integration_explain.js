// Explain what would become of a request: which rule allows or denies it, and where the credential would go.
import { post } from "../api.js";
import { Area, Submit, Text, errorsAt } from "../fields.js";
import { Details, Problem, State, say } from "../parts.js";
import { html, useState } from "../vendor/preact.js";
import { sentence } from "../words.js";

const SHOWN = ["/url", "/method", "/headers", "/body"];

/** @param {{ path: string }} props The path of the integration in the API. */
export function Explain({ path }) {
  const [values, setValues] = useState({ url: "", method: "", headers: "", body: "" });
  const [explained, setExplained] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  /** @param {"url" | "method" | "headers" | "body"} name */
  const props = (name) => ({
    value: values[name],
    error: errorsAt(problem, `/${name}`),
    onInput: (/** @type {string} */ value) => setValues({ ...values, [name]: value }),
  });
  const explain = async () => {
    const headers = values.headers.split("\n").filter((line) => line.trim()).map((line) => line.split(/:\s*(.*)/s).slice(0, 2));
    const result = await post(`${path}/explain`, { url: values.url.trim(), method: values.method.trim(), headers, body: values.body });
    setExplained(result.ok ? result.body : null);
    setProblem(result.ok ? null : result.problem);
    if (result.ok) say(`${result.body.allowed ? "Allowed" : "Denied"}: ${result.body.reason}`);
  };
  return html`
    <form onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      explain();
    }}>
      <${Text} label="URL or path" example="https://api.example.com/orders, or /orders" required ...${props("url")} />
      <${Text} label="Method" example="GET" ...${props("method")} />
      <${Details} summary="Headers and body, for requests that are signed">
        <${Area} label="Headers" help="One in each line, such as Content-Type: text/plain" rows=${2} code ...${props("headers")} />
        <${Area} label="Body" rows=${3} code ...${props("body")} />
      <//>
      <${Submit}>Explain<//>
    </form>
    <${Problem} problem=${problem} shown=${SHOWN} />
    ${explained && html`<${Explanation} explained=${explained} />`}
  `;
}

/** @param {{ explained: any }} props */
function Explanation({ explained }) {
  const { allowed, reason, sent_on: sentOn, rule, credential, signed, unsigned, note } = explained;
  const places = ["headers", "query", "body", "signature", "handshake"].flatMap((place) =>
    (credential?.[place] ?? []).map((/** @type {string} */ name) => `${name} (${place})`));
  return html`
    <p><${State} status=${allowed ? "accepted" : "not_sent"} text=${allowed ? "Allowed" : "Denied"} /> ${sentence(reason)}</p>
    <dl class="pairs">
      ${allowed && sentOn && html`<dt>Sent to</dt><dd><code>${sentOn}</code></dd>`}
      ${rule && html`<dt>Rule</dt><dd>${rule}</dd>`}
      ${places.length > 0 && html`<dt>Credential</dt><dd>${places.join(", ")}</dd>`}
      ${(signed ?? []).map((/** @type {string} */ text) => html`<dt>Signed</dt><dd><code>${text}</code></dd>`)}
      ${unsigned && html`<dt>Not signed</dt><dd>${unsigned}</dd>`}
    </dl>
    ${note && html`<${Details} summary="Note for developers"><p>${sentence(note)}</p><//>`}
  `;
}
