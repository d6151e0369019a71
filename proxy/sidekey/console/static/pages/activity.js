// Activity: the audit as sentences.
import { get, useCall } from "../api.js";
import { write } from "../csv.js";
import { Choice, Search } from "../fields.js";
import { Busy, Empty, More, Page, Problem, Time, download, announce } from "../parts.js";
import { hrefWith, setQuery } from "../router.js";
import { actorOf, toApiSearch, sentenceOf, textOf } from "../sentences.js";
import { store } from "../session.js";
import { number } from "../time.js";
import { html, useEffect, useRef, useState } from "../vendor/preact.js";

/** @typedef {import("../sentences.js").Entry & { object: string, name: string, from: string }} Entry */

/** @type {[string, string][]} */
const OBJECTS = [["", "Everything"], ["integration", "Integrations"], ["preset", "Presets"], ["token", "People"], ["caller", "Callers"], ["session", "Sessions"]];
const EVERY = 30_000;
const MAX_EXPORTED = 10_000;
const COLUMNS = ["time", "who", "identity", "sentence", "action", "object", "name", "fields", "outcome", "from"];

/** @param {{ query: URLSearchParams }} props */
export default function ActivityPage({ query }) {
  const [q, who, object, name, before] = ["q", "who", "object", "name", "before"].map((key) => query.get(key) ?? "");
  const filter = { q: toApiSearch(q), who, object, name };
  const { body, problem, loading } = useCall("/audit", { ...filter, before }, { every: before === "" ? EVERY : undefined });
  /** @type {Entry[]} */
  const items = body?.items ?? [];
  const isFiltered = [q, who, object, name].some((filter) => filter !== "");
  /** @param {string} key */
  const set = (key) => (/** @type {string} */ value) => setQuery({ [key]: value, before: null }, { replace: key !== "object" });
  if (store.value === "absent") return html`<${Page} title="Activity"><${Empty}><p>Sidekey records activity in its store, and this Sidekey has none.</p><//><//>`;
  return html`
    <${Page} title="Activity" actions=${html`<${Export} filter=${filter} />`}>
      <div class="filters">
        <${Search} label="Search" value=${q} onInput=${set("q")} />
        <${Search} label="Person" value=${who} onInput=${set("who")} />
        <${Choice} label="What" value=${object} onInput=${set("object")} options=${OBJECTS} />
      </div>
      ${name !== "" && html`<p>Only entries about <bdi>${name}</bdi>. <a href=${hrefWith({ name: null, before: null })}>Show all</a></p>`}
      <${Problem} problem=${problem} />
      ${loading && !body && html`<${Busy} />`}
      ${items.length > 0 && html`<div class="card"><ul class="activity">${items.map((entry) => html`<${Line} key=${entry.number} entry=${entry} />`)}</ul></div>`}
      ${body && items.length === 0 && html`<${Nothing} next=${body.next} isFiltered=${isFiltered} />`}
      ${(items.length > 0 || !body?.next) && html`<${More} name="before" next=${body?.next} text="Older entries" />`}
    <//>
  `;
}

/** @param {{ next: string | null, isFiltered: boolean }} props */
function Nothing({ next, isFiltered }) {
  const older = html`<a class="button" href=${hrefWith({ before: next })}>Search older ones</a>`;
  if (next) return html`<${Empty}><p>Nothing in these 5,000 entries.</p>${older}<//>`;
  return html`<${Empty}><p>${isFiltered ? html`Nothing matches. <a href="/ui/activity">Clear filters</a>` : "Nobody has changed anything yet."}</p><//>`;
}

/** @param {{ entry: Entry }} props */
function Line({ entry }) {
  const parts = sentenceOf(entry).map((part) =>
    typeof part === "string" ? html`<bdi>${part}</bdi>` : html`<a href=${linkTo(part)}><bdi>${part.text}</bdi></a>`);
  const text = entry.action === "send batch" ? "See results" : entry.action === "send" && entry.outcome === "failed" ? "See why" : "";
  const sends = text && html` <a href=${`/ui/presets/${encodeURIComponent(entry.name)}?tab=sends`}>${text}</a>`;
  return html`
    <li>
      <span class="when"><${Time} at=${entry.at} /></span>
      <span class="grow">${parts}${sends}</span>
      ${entry.from && html`<span class="soft">from <bdi>${entry.from}</bdi></span>`}
    </li>
  `;
}

/** @param {{ object: string, name: string }} part */
function linkTo({ object, name }) {
  const id = encodeURIComponent(name);
  if (object === "integration" || object === "preset") return `/ui/${object}s/${id}`;
  return object === "token" ? "/ui/access" : `/ui/access?tab=${object}s`;
}

/** @param {{ filter: Record<string, string> }} props */
function Export({ filter }) {
  const [progress, setProgress] = useState("");
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const stopped = useRef(false);
  useEffect(() => () => {
    stopped.current = true;
  }, []);
  const run = async () => {
    /** @type {Entry[]} */
    const entries = [];
    let before = "";
    setProblem(null);
    do {
      setProgress(`${number(entries.length)} entries…`);
      const result = await get("/audit", { query: { ...filter, before } });
      if (stopped.current) return;
      if (!result.ok) {
        setProgress("");
        return setProblem(result.problem);
      }
      entries.push(...result.body.items);
      before = result.body.next ?? "";
    } while (before !== "" && entries.length < MAX_EXPORTED);
    download("activity.csv", write([COLUMNS, ...entries.map(rowOf)]));
    const cut = before === "" ? "" : " There are older ones: filter them to export these.";
    setProgress(`${number(entries.length)} entries exported.${cut}`);
    announce("Exported.");
  };
  const isBusy = progress.endsWith("…");
  return html`
    <span class="soft">${problem ? `${problem.title}. ${problem.detail}` : progress}</span>
    <button type="button" class="button" aria-disabled=${isBusy ? "true" : undefined} onClick=${isBusy ? undefined : run}>Export as CSV</button>
  `;
}

/** @param {Entry} entry */
function rowOf(entry) {
  const { at, who, action, object, name, fields, outcome, from } = entry;
  return [at, actorOf(entry), who, textOf(entry), action, object, name, fields.join(" "), outcome, from];
}
