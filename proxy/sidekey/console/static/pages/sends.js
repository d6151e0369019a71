// Sends of a person: outcomes, never contents.
import { useCall } from "../api.js";
import { ask } from "../dialog.js";
import { Copy, Details, Empty, Loading, More, Problem, State, Time } from "../parts.js";
import { go } from "../router.js";
import { may, me } from "../session.js";
import { html, signal } from "../vendor/preact.js";
import { countsText, outcomeWords, personName } from "../words.js";

/** @typedef {import("../sending.js").Send} Send */

/** Milliseconds: a file whose last row is younger may still be sent by another window. */
const RECENT = 120_000;
/** Outcomes after which a person must look before sending again. */
const MAY_HAVE_ACTED = new Set(["failed", "unknown"]);

/** The last run of this page and its batch. @type {{ value: { id: string, run: import("../csv_run.js").Run, goOn: () => void } | null }} */
export const lastRun = signal(null);

/** @param {{ preset?: string, query: URLSearchParams, titles?: Record<string, string>, goOn?: boolean }} props
 * The sends of this person, of one preset or of all. `goOn`: the preset takes CSV files. */
export function Sends({ preset, query, titles = {}, goOn = false }) {
  const before = query.get("before");
  const { body, problem, reload } = useCall("/sends", { preset, before, who: ownSends(preset) }, { every: 30_000 });
  if (!body) return html`<${Loading} problem=${problem} again=${reload} />`;
  return html`
    <${Problem} problem=${problem} />
    <${List} sends=${body.items} titles=${preset ? null : titles} goOn=${goOn}
      empty=${preset ? "You have sent nothing with this yet." : "You have sent nothing yet."} />
    <${More} name="before" next=${body.next} />
    <p class="help">Sidekey keeps results, not contents: it does not know to whom you sent.</p>
  `;
}

/** @param {string | undefined} preset The sends of a preset are those of everybody, except for senders. */
export const ownSends = (preset) => (preset && may("viewer") ? me.value?.name : undefined);

/** @param {{ sends: Send[], titles: Record<string, string> | null, goOn?: boolean, people?: boolean, empty: string }} props
 * `people`: also who sent. */
export function List({ sends, titles, goOn = false, people = false, empty }) {
  if (sends.length === 0) return html`<${Empty}><p>${empty}</p><//>`;
  return html`
    <ul class="card sends">
      ${sends.map((send) => html`
        <li key=${send.key}>
          <span class="when"><${Time} at=${send.at} /></span>
          <div class="grow">
            ${people && html`<bdi>${personName({ name: send.who, label: send.label, identity: send.who })}</bdi>: `}
            ${titles && (send.preset === null
              ? "A preset that was not saved: "
              : html`<a href=${`/ui/send/${encodeURIComponent(send.preset)}`}>${titles[send.preset] ?? send.preset}</a> `)}
            ${send.batch ? html`<${File} id=${send.batch.id} at=${send.at} goOn=${goOn} />` : html`<${Outcome} send=${send} />`}
          </div>
          ${!send.batch && send.request_id && html`<span class="help">${send.request_id} <${Copy} text=${send.request_id} /></span>`}
        </li>
      `)}
    </ul>
  `;
}

/** @param {{ send: Send }} props */
function Outcome({ send }) {
  const { mood, text, advice } = outcomeWords(send);
  return html`
    <span class=${mood === "good" ? "" : "error"}>${text}</span>
    ${MAY_HAVE_ACTED.has(send.outcome) && html` <span class="help">${advice}</span>`}
  `;
}

/** @param {string} at */
const isRecent = (at) => Date.now() - new Date(at).getTime() < RECENT;

/** @param {{ id: string, at: string, goOn: boolean }} props A batch, with its newest row. */
function File({ id, at, goOn }) {
  const every = lastRun.value?.id === id && lastRun.value.run.isBusy ? 5_000 : isRecent(at) ? 30_000 : undefined;
  const { body, problem } = useCall(`/batches/${id}`, undefined, { every });
  if (body) return html`<${Batch} batch=${body} goOn=${goOn} />`;
  return problem ? html`<${Problem} problem=${problem} />` : "A file.";
}

/** @typedef {import("../api.js").Schemas["Batch"]} BatchResult */

/** @param {{ batch: BatchResult, goOn: boolean }} props */
function Batch({ batch, goOn }) {
  const { rows, last_row: last, outcomes, others } = batch;
  const next = last + 1;
  const here = lastRun.value?.id === batch.id ? lastRun.value : null;
  const isPaused = here?.run.phase === "paused";
  const isSending = here !== null && here.run.isBusy && !isPaused;
  const mayBeSending = here === null && next <= rows && isRecent(batch.ended_at);
  const start = async () => {
    if (here && isPaused) {
      go(`/send/${encodeURIComponent(batch.preset)}?tab=csv`);
      return here.goOn();
    }
    const question = {
      title: "Go on?",
      text: "The last row was sent a short time ago. If another window still sends this file, rows would be sent twice.",
      yes: "Go on",
    };
    if (mayBeSending && !(await ask(question))) return;
    return go(`/send/${encodeURIComponent(batch.preset)}?tab=csv&start=${next}&rows=${rows}`);
  };
  return html`
    <p>${isSending && html`<strong>Sending…</strong> `}${summary(batch)}${mayBeSending && ". It may still be running."}</p>
    <p class="help">${countsText(outcomes)}</p>
    ${others.length > 0 && html`
      <${Details} summary="Rows that were not accepted">
        <ul class="plain">${others.map(({ row, outcome: result, status }) => html`<li>Row ${row} <${State} status=${result} /> ${status || ""}</li>`)}</ul>
      <//>
    `}
    ${goOn && next <= rows && !isSending && html`<button type="button" class="button" onClick=${start}>Go on at row ${next}</button>`}
  `;
}

/** @param {BatchResult} batch Rows are sent in order, and some may be left out. */
function summary({ rows, last_row: last, outcomes, others }) {
  const sent = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
  const end = others.at(-1);
  const isOpen = end?.row === last && (end.outcome === "unknown" || end.outcome === "sending");
  const known = isOpen ? sent - 1 : sent;
  const to = isOpen ? last - 1 : last;
  const range = `${known === 1 ? "1 row was" : `${known} rows were`} sent, up to row ${to === rows ? to : `${to} of ${rows}`}`;
  const open = isOpen && `row ${last} is ${end.outcome === "unknown" ? "unknown" : "under way"}`;
  return `A file: ${[known > 0 && range, open].filter(Boolean).join(", ")}`;
}
