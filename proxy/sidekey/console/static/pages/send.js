// Send a preset once or from a CSV file, and see its sends.
import { useCall } from "../api.js";
import { focusFirst, Submit } from "../fields.js";
import { bodyOf, errorsIn, FormOfPreset, initialValues } from "../form_of_preset.js";
import { Busy, Copy, Loading, Page, Tabs, announce } from "../parts.js";
import { ask } from "../dialog.js";
import { useLeaveQuestion } from "../router.js";
import { fetchResult, mayHaveArrived, newKey, send } from "../sending.js";
import { may, mayChange, me } from "../session.js";
import { seconds } from "../time.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { outcomeWords, sendProblem, sentJustNow } from "../words.js";
import { Sends } from "./sends.js";

/**
 * @typedef {import("../form_of_preset.js").Form} Form
 * @typedef {import("../form_of_preset.js").Values} Values
 * @typedef {import("../sending.js").SendResult} SendResult
 * @typedef {import("../words.js").Words} Words
 * @typedef {{ phase: "edit" } | { phase: "repeated", ago: number } | { phase: "sending" } | { phase: "asking", connected: boolean }
 *   | { phase: "ended", sent: SendResult }} State
 */

const REMEMBERED = 60_000;

/** When contents were sent that may have arrived, by preset and body. @type {Map<string, number>} */
const recent = new Map();

/** @param {{ params: { id: string }, query: URLSearchParams }} props */
export default function SendPage({ params: { id }, query }) {
  const { body: form, problem, reload } = useCall(`/forms/${encodeURIComponent(id)}`, undefined, { every: 30_000 });
  const crumbs = html`<a href="/ui/send">Send</a> / ${form?.title ?? id}`;
  return html`
    <${Page} title=${form?.title ?? id} crumbs=${crumbs}>
      ${form
        ? html`<${Views} form=${form} query=${query} />`
        : problem?.code === "forbidden"
        ? html`<p class="banner bad" role="alert">You may not send this. Ask an admin.</p>`
        : html`<${Loading} problem=${problem} again=${reload} />`}
    <//>
  `;
}

/** @param {{ form: Form, query: URLSearchParams }} props */
function Views({ form, query }) {
  const hasCsv = form.takes === "parameters" && form.parameters.length > 0;
  /** @type {[string, string][]} */
  const items = [["one", "One"], ["csv", "From a CSV file"], ["sends", "Your sends"]];
  const tabs = hasCsv ? items : items.filter(([key]) => key !== "csv");
  const chosen = query.get("tab") ?? "one";
  const tab = tabs.some(([key]) => key === chosen) ? chosen : "one";
  // What was typed and a file that is being sent stay while the person looks at another tab.
  return html`
    ${form.help && html`<p class="lead">${form.help}</p>`}
    <${Tabs} items=${tabs} value=${tab} />
    ${form.problem && tab !== "sends" && html`<p class="banner bad" role="alert">Cannot be sent now.
      ${" "}${may("viewer") ? html`<a href=${`/ui/presets/${encodeURIComponent(form.id)}`}>See why</a>` : "Tell a developer."}</p>`}
    ${!form.problem && tab !== "sends" && may("viewer") && html`<${Failing} id=${form.id} />`}
    <div hidden=${tab !== "one"}><${One} form=${form} /></div>
    ${hasCsv && html`<div hidden=${tab !== "csv"}><${File} form=${form} query=${query} /></div>`}
    ${tab === "sends" && html`<${Sends} preset=${form.id} query=${query} goOn=${hasCsv} />`}
  `;
}

/** @param {{ form: Form, query: URLSearchParams }} props Files are a third of this page's size, and few people need them at once. */
function File({ form, query }) {
  const [loaded, setLoaded] = useState(/** @type {typeof import("./send_csv.js") | "failed" | null} */ (null));
  useEffect(() => {
    import("./send_csv.js").then(setLoaded, () => setLoaded("failed"));
  }, []);
  if (loaded === "failed") return html`<p class="banner bad">This part of the page could not be loaded. Reload the page.</p>`;
  return loaded ? html`<${loaded.SendCsv} form=${form} query=${query} />` : html`<${Busy} />`;
}

/** @param {{ id: string }} props A warning for people who may see integrations. */
function Failing({ id }) {
  const preset = useCall(`/presets/${encodeURIComponent(id)}`).body;
  const path = preset ? `/integrations/${encodeURIComponent(preset.integration)}` : null;
  const { body } = useCall(path, undefined, { every: 30_000 });
  if (body?.status !== "failing") return null;
  return html`<p class="banner" role="alert">The integration of this preset is failing, so this may not arrive. <a href=${`/ui${path}`}>See why</a></p>`;
}

/** @param {{ form: Form }} props */
function One({ form }) {
  const [values, setValues] = useState(() => initialValues(form));
  const [state, setState] = useState(/** @type {State} */ ({ phase: "edit" }));
  const element = useRef(/** @type {HTMLFormElement | null} */ (null));
  const result = useRef(/** @type {HTMLElement | null} */ (null));
  /** The key of the send that is under way or may be repeated. @type {{ current: string }} */
  const key = useRef("");
  const body = bodyOf(form, values);
  const content = `${form.id}\n${body}`;
  const sent = state.phase === "ended" ? state.sent : null;
  const problem = sent && "problem" in sent ? sent.problem : null;
  const errors = errorsIn(form, problem);
  // The values can be edited unless a send is running.
  const isOpen = state.phase === "edit" || state.phase === "repeated" || problem !== null;
  const isUnderWay = state.phase === "sending" || state.phase === "asking";
  useLeaveQuestion(() => isUnderWay, "It is still under way. If you leave, see Your sends later.");

  /** Whether the next form is the result of a button, which is gone. */
  const isReopened = useRef(false);
  useEffect(() => {
    if (problem?.code === "invalid") focusFirst(element.current);
    else if (state.phase === "ended") result.current?.focus();
    else if (isReopened.current) firstInput(element.current)?.focus();
    isReopened.current = false;
  }, [state]);

  /** @param {(onFetch: (connected: boolean) => void) => Promise<SendResult>} request */
  const run = async (request) => {
    const sentNow = await request((connected) => setState({ phase: "asking", connected }));
    if (mayHaveArrived(sentNow)) recent.set(content, Date.now());
    announce(wordsOf(sentNow).text);
    setState({ phase: "ended", sent: sentNow });
  };
  /** Send what is typed, with the key of the previous attempt if `again`. @param {{ again?: boolean }} [options] */
  const start = ({ again = false } = {}) => {
    if (!again) key.current = newKey();
    setState({ phase: "sending" });
    run((onFetch) => send(form.id, key.current, body, { onFetch }));
  };
  const askAgain = () => run((onFetch) => fetchResult(key.current, { onFetch }));
  /** @param {Event} event */
  const onSubmit = (event) => {
    event.preventDefault();
    if (!isOpen) return;
    const now = Date.now();
    for (const [key, at] of recent) if (now - at >= REMEMBERED) recent.delete(key);
    const age = now - (recent.get(content) ?? 0);
    if (age < REMEMBERED) setState({ phase: "repeated", ago: age / 1000 });
    else start();
  };
  const edit = () => {
    isReopened.current = true;
    setState({ phase: "edit" });
  };
  const startOver = () => {
    setValues(initialValues(form));
    edit();
  };
  const editLost = async () => {
    const question = { title: "Change it?", text: "It may still arrive. Send the changed content all the same?", yes: "Edit" };
    if (await ask(question)) edit();
  };

  /** @param {string} label @param {() => void} onClick */
  const button = (label, onClick) => html`<button type="button" class="button" onClick=${onClick}>${label}</button>`;
  /** @param {SendResult} ended */
  const actions = (ended) => {
    if ("send" in ended) return html`${button("Edit and send again", edit)} ${button("New", startOver)}`;
    if ("unreachable" in ended) return button("Ask again", askAgain);
    if ("problem" in ended) return ended.problem.code === "key_reused" && button("New", startOver);
    return html`<button type="button" class="button primary" onClick=${() => start({ again: true })}>Send</button> ${button("Edit", editLost)}
      <span class="help">The same key: it is never sent twice.</span>`;
  };
  return html`
    <form class="card pad limited" ref=${element} onSubmit=${onSubmit} noValidate>
      ${form.takes === "parameters" && form.parameters.length === 0 && html`<p>There is nothing to fill in.</p>`}
      <${FormOfPreset} form=${form} values=${values} errors=${errors} disabled=${!isOpen}
        onInput=${(/** @type {string} */ name, /** @type {string | boolean} */ value) => {
          setValues((previous) => ({ ...previous, [name]: value }));
          if (state.phase === "repeated") setState({ phase: "edit" });
        }} />
      ${state.phase !== "repeated" && isOpen && html`
        <div class="actions"><${Submit} disabled=${form.problem || !mayChange("send")}>Send<//><span class="help">It goes out at once and cannot be taken back.</span></div>
      `}
      ${state.phase === "repeated" && html`
        <${Result} words=${sentJustNow(state.ago)}>
          <button type="button" class="button primary" onClick=${() => start()}>Send it anyway</button> ${button("Cancel", edit)}
        <//>
      `}
      ${state.phase === "sending" && html`<${Busy} text="Sending…" />`}
      ${state.phase === "asking" && html`
        <${Busy} text=${state.connected ? "Asking Sidekey what became of it…" : "No connection to Sidekey. Asking again…"} />
        <p class="help">Keep this page open. If you close it, see Your sends later.</p>
      `}
      ${sent && html`<${Result} words=${wordsOf(sent)} send=${"send" in sent ? sent.send : undefined} focus=${result}>${actions(sent)}<//>`}
      ${problem && html`<${Rest} problem=${problem} errors=${errors} />`}
    </form>
  `;
}

/** @param {Element | null} form @returns {HTMLElement | null | undefined} */
const firstInput = (form) => form?.querySelector("input, textarea, select");

/** @param {SendResult} sent @returns {Words} */
function wordsOf(sent) {
  if ("send" in sent) return outcomeWords(sent.send);
  if ("lost" in sent) return { mood: "warning", text: "Sidekey has not received it.", advice: "" };
  if ("unreachable" in sent) return { mood: "warning", text: "Unknown: it may have been sent.", advice: "Sidekey cannot be asked now." };
  return sendProblem(sent.problem, sent.retryAfter, me.value ?? undefined);
}

/** @param {{ words: Words, send?: import("../sending.js").Send, focus?: { current: HTMLElement | null }, children?: any }} props */
function Result({ words, send: made, focus, children }) {
  return html`
    <div class=${`banner result ${words.mood}`} ref=${focus} tabindex="-1" role="group" aria-label="Result">
      <p><strong>${words.text}</strong> ${words.advice}</p>
      ${made && html`<p class="help">${seconds(made.at)}${made.request_id && html` · request ${made.request_id} <${Copy} text=${made.request_id} />`}</p>`}
      ${children && html`<div class="actions">${children}</div>`}
    </div>
  `;
}

/** @param {{ problem: import("../api.js").Problem, errors: Record<string, string> }} props Errors that no input shows. */
function Rest({ problem, errors }) {
  if (problem.code !== "invalid") return null;
  const fieldPointers = Object.keys(errors).map((name) => (name === "" ? "/payload" : `/parameters/${name}`));
  const rest = problem.errors.filter(({ pointer }) => !fieldPointers.includes(pointer));
  return rest.length > 0 && html`<ul class="error">${rest.map(({ pointer, detail }) => html`<li><code>${pointer}</code> ${detail}</li>`)}</ul>`;
}
