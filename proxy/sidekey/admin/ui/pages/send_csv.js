// Send the rows of a CSV file: choose it, check it, send it, download the result.
import { post } from "../api.js";
import { download, read, write } from "../csv.js";
import { Run } from "../csv_run.js";
import { Choice, FileInput, Text } from "../fields.js";
import { bodyOf, labelOf, parametersOf } from "../form_of_preset.js";
import { Busy, Problem, say } from "../parts.js";
import { leaveQuestion, setQuery } from "../router.js";
import { mayHaveArrived, newKey, send, wait } from "../sending.js";
import { me } from "../session.js";
import { number } from "../time.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { counted, outcome } from "../words.js";

/**
 * @typedef {import("../form_of_preset.js").Form} Form
 * @typedef {import("../form_of_preset.js").Values} Values
 * @typedef {import("../csv.js").Table} Table
 * @typedef {import("../csv_run.js").RowResult} RowResult
 * @typedef {{ row: number, values: Values, text: string }} Item `text`: its parameters as JSON.
 * @typedef {{ checked: number, errors: { row: number, text: string }[], problem: import("../api.js").Problem | null, isDone: boolean }} Check
 */

const LARGEST = 5 << 20;
const CHECKED_AT_ONCE = 100;
const MOST_SHOWN = 20;
const PREVIEWED = 5;
/** Spreadsheets separate cells by semicolons where people write 1,5. */
const SPREADSHEET = (1.5).toLocaleString().includes(",") ? ";" : ",";
/** Begins the headings of a result, which are no columns of a file that is sent again. */
const OWN = "Sidekey: ";
/** @type {Record<string, string>} */
const NAMES = { ",": "comma", ";": "semicolon" };
const BOOLEANS = { true: true, yes: true, 1: true, false: false, no: false, 0: false };

/** @param {{ form: Form, query: URLSearchParams }} props */
export function SendCsv({ form, query }) {
  const [file, setFile] = useState(/** @type {{ name: string, table: Table } | null} */ (null));
  const [error, setError] = useState("");
  const [columns, setColumns] = useState(/** @type {string[]} */ ([]));
  const begins = query.get("start") ?? "1";
  const [start, setStart] = useState(begins);
  useEffect(() => setStart(begins), [begins]);
  /** @type {{ current: Map<number, RowResult> }} */
  const results = useRef(new Map());
  /** Contents that may have arrived, of all files. @type {{ current: Set<string> }} */
  const arrived = useRef(new Set());
  const [run, setRun] = useState(/** @type {Run | null} */ (null));
  const [, redraw] = useState(0);
  const isBusy = run !== null && run.isBusy;
  leaveQuestion(() => isBusy, "The file is still being sent. If you leave, it stops after this row.");
  useEffect(() => () => run?.isBusy && run.stop(), [run]);
  const parameters = JSON.stringify(form.parameters);
  const items = useMemo(() => (file ? itemsOf(form, file.table, columns) : []), [file, columns, parameters]);
  const mapping = file ? mappingErrors(form, file.table, columns) : [];
  const [check, checkAgain] = useCheck(form, mapping.length === 0 ? items : NO_ITEMS);

  /** @param {File} chosen */
  const choose = async (chosen) => {
    setError("");
    setFile(null);
    const table = chosen.size > LARGEST ? "The file is larger than 5 MB. Split it." : await contentOf(chosen);
    if (typeof table === "string") return setError(table);
    results.current = new Map();
    setRun(null);
    setColumns(table.headings.map((heading) => matching(form, heading)));
    setFile({ name: chosen.name, table });
    setStart(begins);
    return say(`${chosen.name}: ${table.rows.length} rows.`);
  };
  const last = file?.table.rows.at(-1)?.row ?? 0;
  const first = /^[0-9]{1,4}$/.test(start.trim()) ? Number(start) : 0;
  const chosen = items.filter(({ row }) => first > 0 && row >= first);
  const begin = () => {
    const batch = newKey();
    const rows = chosen.map(({ row, values, text }) => ({ row, text, body: bodyOf(form, values, { batch: { id: batch, rows: last } }) }));
    // The next file begins at its first row.
    setQuery({ start: null, rows: null }, { replace: true });
    const next = new Run(rows, results.current, {
      send: async ({ row, body, text }, onAsk, givenUp) => {
        const sent = await send(form.id, `${batch}-${row}`, body, { onAsk, givenUp });
        if (mayHaveArrived(sent)) arrived.current.add(text);
        return sent;
      },
      wait,
      now: Date.now,
      onChange: () => {
        if (next.phase === "stopped") setStart(String(next.items[next.position]?.row ?? last));
        redraw((previous) => previous + 1);
      },
      perMinute: me.value?.per_minute ?? null,
    });
    setRun(next);
    goOn(next);
  };
  /** @param {Run} current */
  const goOn = async (current) => {
    await current.go();
    say(ended(current));
  };

  return html`
    <section class="card pad">
      <h2>1. Choose a file</h2>
      ${query.has("start") && !file && html`<p>Choose the same file again. Sidekey does not keep it.</p>`}
      <${FileInput} label="CSV file" accept=".csv,text/csv" onFile=${choose} error=${error} disabled=${isBusy}
        help="Comma or semicolon, UTF-8, at most 1,000 rows. You can also drop the file here." />
      <button type="button" class="button" onClick=${() => download(`${form.id}.csv`, write([form.parameters.map(labelIn(form))], SPREADSHEET))}>
        Download an empty file with the headings
      </button>
    </section>
    ${file && html`
      <section class="card pad">
        <h2>2. Check</h2>
        <${Checked} form=${form} file=${file} columns=${columns} setColumns=${setColumns} items=${items} mapping=${mapping}
          check=${check} checkAgain=${checkAgain} disabled=${isBusy} expected=${Number(query.get("rows") ?? 0)} />
      </section>
    `}
    ${file && (isBusy || (check.isDone && check.errors.length === 0)) && html`
      <section class="card pad">
        <h2>3. Send</h2>
        ${isBusy
          ? html`<${Progress} run=${run} goOn=${() => goOn(run)} />`
          : html`<${Begin} form=${form} start=${start} setStart=${setStart} first=${first} last=${last} count=${chosen.length} begin=${begin} run=${run}
              again=${chosen.filter(({ text }) => arrived.current.has(text)).length} />`}
      </section>
    `}
    ${file && results.current.size > 0 && html`
      <section class="card pad">
        <h2>4. Result</h2>
        <${Results} form=${form} file=${file} results=${results.current} />
      </section>
    `}
  `;
}

/** @param {{ form: Form, file: { name: string, table: Table }, columns: string[], setColumns: (columns: string[]) => void, items: Item[],
 *   mapping: string[], check: Check, checkAgain: () => void, disabled: boolean, expected: number }} props */
function Checked({ form, file, columns, setColumns, items, mapping, check, checkAgain, disabled, expected }) {
  const { headings, rows, separator } = file.table;
  /** @type {[string, string][]} */
  const options = [["", "(not used)"], ...form.parameters.map((parameter) => /** @type {[string, string]} */ ([parameter.name, labelOf(parameter)]))];
  const used = form.parameters.filter(({ name }) => columns.includes(name));
  const same = useMemo(() => repeated(items), [items]);
  const last = rows.at(-1)?.row ?? 0;
  return html`
    <p><strong>${file.name}</strong>: ${number(rows.length)} ${rows.length === 1 ? "row" : "rows"}, ${NAMES[separator]}, UTF-8.</p>
    ${expected > 0 && expected !== last && html`<p class="banner">The file that you began with had ${expected} rows. This one has ${last}.</p>`}
    <div class="mapping">
      ${headings.map((heading, index) => html`<${Choice} key=${index} label=${heading} value=${columns[index]} options=${options} disabled=${disabled}
        onInput=${(/** @type {string} */ name) => setColumns(columns.with(index, name))} />`)}
    </div>
    ${mapping.map((text) => html`<p class="error">${text}</p>`)}
    ${mapping.length === 0 && !check.isDone && !check.problem && html`<${Busy} text=${`Checking: ${check.checked} of ${items.length} rows…`} />`}
    ${check.problem && html`<${Problem} problem=${check.problem} /><button type="button" class="button" onClick=${checkAgain}>Check again</button>`}
    <${Lines} title=${(/** @type {number} */ count) => `${count} ${count === 1 ? "row" : "rows"} cannot be sent:`} mood="bad"
      lines=${mapping.length === 0 ? check.errors.map(({ row, text }) => `Row ${row}: ${text}`) : []} count=${new Set(check.errors.map(({ row }) => row)).size} />
    <${Lines} title=${() => "These rows have the same content. Each of them is sent:"} mood="warning" lines=${same} count=${same.length} />
    ${used.length > 0 && html`
      <h3>Preview of ${Math.min(PREVIEWED, items.length)} rows</h3>
      <div class="scroll" tabindex="0" role="region" aria-label="Preview">
        <table class="list">
          <thead><tr><th scope="col">Row</th>${used.map((parameter) => html`<th scope="col">${labelOf(parameter)}</th>`)}</tr></thead>
          <tbody>${items.slice(0, PREVIEWED).map(({ row, values }) => html`
            <tr><th scope="row">Row ${row}</th>${used.map((each) => html`<td data-label=${labelOf(each)}>${shown(values[each.name])}</td>`)}</tr>
          `)}</tbody>
        </table>
      </div>
    `}
  `;
}

/** @param {{ title: (count: number) => string, lines: string[], count: number, mood: string }} props */
function Lines({ title, lines, count, mood }) {
  if (lines.length === 0) return null;
  return html`
    <div class=${`banner ${mood}`}>
      <p>${title(count)}</p>
      <ul>${lines.slice(0, MOST_SHOWN).map((line) => html`<li>${line}</li>`)}</ul>
      ${lines.length > MOST_SHOWN && html`<p>And ${lines.length - MOST_SHOWN} more.</p>`}
    </div>
  `;
}

/** @param {{ form: Form, start: string, setStart: (start: string) => void, first: number, last: number, count: number, begin: () => void,
 *   run: Run | null, again: number }} props `again`: how many of the rows were sent before. */
function Begin({ form, start, setStart, first, last, count, begin, run, again }) {
  const isInside = first > 0 && count > 0;
  const isOpen = run === null || run.position < run.items.length;
  return html`
    ${run && html`<p class=${run.isFine ? "banner good" : "banner"}><strong>${ended(run)}</strong> ${left(run)}</p>`}
    ${isOpen && html`
      <${Text} label="Start at row" type="number" value=${start} onInput=${setStart} help="Row 1 is the first row below the headings."
        error=${isInside ? "" : `Enter a row between 1 and ${last}.`} />
      <p>${pace(count)}</p>
      ${again > 0 && html`<p class="banner">From this page you have sent the content of ${number(again)} of these rows before. They would be sent again.</p>`}
      <div class="actions">
        <button type="button" class="button primary" disabled=${!isInside || form.problem} onClick=${begin}>Send ${number(count)} ${count === 1 ? "row" : "rows"}</button>
        <span class="help">They go out at once and cannot be taken back.</span>
      </div>
    `}
  `;
}

/** @param {Run} run */
function ended({ phase, note, items, results }) {
  if (phase !== "done") return `${phase === "paused" ? "Paused" : "Stopped"}${note ? `: ${note}` : "."}`;
  const accepted = items.filter(({ row }) => results.get(row)?.outcome === "accepted").length;
  return `Done: ${number(accepted)} of ${number(items.length)} rows were accepted.`;
}

/** @param {Run} run */
function left({ items, position }) {
  const count = items.length - position;
  if (count === 0) return "";
  return count === 1 ? "1 row is left: the result says which." : `${number(count)} rows are left: the result says which.`;
}

/** @param {number} count How long the rows take, and whether they are more than a day's limit. */
function pace(count) {
  const { per_minute: minute, per_day: day } = me.value ?? {};
  const minutes = minute ? Math.ceil(count / minute) : 0;
  const time = minutes > 1 ? `At ${number(minute ?? 0)} a minute, ${number(count)} rows take about ${minutes - 1 || 1} ${minutes > 2 ? "minutes" : "minute"}. ` : "";
  const limit = day && count > day ? `Your limit is ${number(day)} in 24 hours, earlier sends included: the rest waits until tomorrow. ` : "";
  return `${time}${limit}Keep this page open.`;
}

/** @param {{ run: Run, goOn: () => void }} props */
function Progress({ run, goOn }) {
  const { phase, note, position, items } = run;
  const isEnding = phase === "pausing" || phase === "stopping";
  return html`
    <label class="progress"><progress value=${position} max=${items.length}></progress> <span>${number(position)} of ${number(items.length)}</span></label>
    <p>${counts(run.results.values())}</p>
    <p>${phase === "paused" ? ended(run) : isEnding ? "Waiting for the row that is under way…" : note}</p>
    <div class="actions">
      ${phase === "paused"
        ? html`<button type="button" class="button primary" onClick=${goOn}>Go on</button>`
        : html`<button type="button" class="button" disabled=${isEnding} onClick=${() => run.pause()}>Pause</button>`}
      <button type="button" class="button" disabled=${phase === "stopping"} onClick=${() => run.stop()}>Stop</button>
      ${phase === "paused" && run.isUncertain && html`<span class="help">The same key: it is never sent twice.</span>`}
    </div>
  `;
}

/** @param {Iterable<RowResult>} results "108 accepted · 4 refused" */
function counts(results) {
  /** @type {Record<string, number>} */
  const found = {};
  for (const { outcome: name } of results) found[name] = (found[name] ?? 0) + 1;
  return counted(found);
}

/** @param {{ form: Form, file: { name: string, table: Table }, results: Map<number, RowResult> }} props */
function Results({ form, file, results }) {
  const others = [...results].filter(([, result]) => result.outcome !== "accepted");
  const name = `${file.name.replace(/\.csv$/i, "")}-result.csv`;
  return html`
    <p>${counts(results.values())}</p>
    <div class="actions"><button type="button" class="button" onClick=${() => download(name, resultOf(file.table, results))}>Download the result</button></div>
    <${Lines} title=${() => "Not accepted:"} mood="warning" count=${others.length} lines=${others.map(([row, result]) => sentence(form, row, result))} />
  `;
}

/** @param {Form} form @param {number} row @param {RowResult} result */
function sentence(form, row, result) {
  if (result.errors) return `Row ${row}: not sent. ${result.errors.map((error) => errorText(form, error)).join(" ")}`;
  if (result.outcome === "unknown") return `Check row ${row} at ${result.host || "the service"} before you send it again.`;
  return `Row ${row}: ${outcome(/** @type {import("../words.js").Send} */ (result)).text}`;
}

/** @param {Table} table @param {Map<number, RowResult>} results The rows from the first that was sent. */
function resultOf({ headings, rows, separator }, results) {
  const from = Math.min(...results.keys());
  const kept = headings.map((heading, index) => ({ heading, index })).filter(({ heading }) => !heading.startsWith(OWN));
  const lines = rows.filter(({ row }) => row >= from).map(({ row, cells }) => {
    const result = results.get(row);
    const own = [String(row), ...kept.map(({ index }) => cells[index])];
    if (!result) return [...own, "not sent yet", "", "", ""];
    return [...own, result.outcome.replace("_", " "), String(result.status || ""), result.at ?? "", result.request_id ?? ""];
  });
  const names = ["outcome", "status", "time", "request ID"].map((name) => OWN + name);
  return write([[`${OWN}row`, ...kept.map(({ heading }) => heading), ...names], ...lines], separator);
}

/** @param {File} file @returns {Promise<Table | string>} */
async function contentOf(file) {
  try {
    return read(await file.arrayBuffer());
  } catch {
    return "The file cannot be read. Choose it again.";
  }
}

/** @param {Form} form Return headings that `matching` finds again. */
const labelIn = (form) => (/** @type {Form["parameters"][number]} */ parameter) => {
  const label = labelOf(parameter).trim();
  return matching(form, label) === parameter.name ? label : parameter.name;
};

/** @param {Form} form @param {string} heading @returns {string} The name of the only parameter that is called so, or "". */
function matching({ parameters }, heading) {
  const text = heading.toLowerCase();
  const byName = parameters.find(({ name }) => name.toLowerCase() === text);
  const byTitle = parameters.filter(({ title }) => title?.trim().toLowerCase() === text);
  return byName?.name ?? (byTitle.length === 1 ? byTitle[0].name : "");
}

/** @param {Form} form @param {Table} table @param {string[]} columns @returns {string[]} */
function mappingErrors({ parameters }, { headings }, columns) {
  return parameters.flatMap((parameter) => {
    const from = headings.filter((_, index) => columns[index] === parameter.name);
    if (from.length > 1) return [`${from.join(" and ")} both go to ${labelOf(parameter)}. Choose one.`];
    return parameter.required && from.length === 0 ? [`No column goes to ${labelOf(parameter)}, which is required.`] : [];
  });
}

/** @type {Item[]} */
const NO_ITEMS = [];

/** @param {Form} form @param {Table} table @param {string[]} columns @returns {Item[]} */
function itemsOf(form, { rows }, columns) {
  return rows.map(({ row, cells }) => {
    /** @type {Values} */
    const values = {};
    for (const { name, type } of form.parameters) {
      const index = columns.indexOf(name);
      if (index < 0) continue;
      const cell = cells[index];
      const word = /** @type {keyof typeof BOOLEANS} */ (cell.trim().toLowerCase());
      values[name] = type === "boolean" ? (BOOLEANS[word] ?? cell.trim()) : cell;
    }
    return { row, values, text: parametersOf(form, values) };
  });
}

/** @param {Item[]} items @returns {string[]} "Rows 12 and 40 are the same." */
function repeated(items) {
  /** @type {Map<string, number[]>} */
  const rows = new Map();
  for (const { row, text } of items) rows.set(text, [...(rows.get(text) ?? []), row]);
  const groups = [...rows.values()].filter((group) => group.length > 1);
  return groups.map((group) => `Rows ${group.slice(0, -1).slice(0, 10).join(", ")} and ${group.at(-1)} are the same.`);
}

/** @param {string | boolean | undefined} value */
const shown = (value) => (value === true ? "true" : value === false ? "false" : (value ?? ""));

/** @param {Form} form @param {{ pointer: string, detail: string }} error */
function errorText({ parameters }, { pointer, detail }) {
  const name = pointer.replace(/^\/parameters(?=\/)/, "").slice(1);
  const parameter = parameters.find((each) => each.name === name);
  return `${parameter ? labelOf(parameter) : name} ${detail}`.trim();
}

/**
 * Check all items on the server, a hundred at a time.
 * @param {Form} form @param {Item[]} items
 * @returns {[Check, () => void]}
 */
function useCheck(form, items) {
  /** @type {Check} */
  const none = { checked: 0, errors: [], problem: null, isDone: false };
  const [check, setCheck] = useState(none);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    const run = async () => {
      /** @type {Check["errors"]} */
      const errors = [];
      for (let from = 0; from < items.length; ) {
        const part = items.slice(from, from + CHECKED_AT_ONCE);
        const result = await post(`/presets/${encodeURIComponent(form.id)}/check`, `{"rows":[${part.map(({ text }) => text).join(",")}]}`);
        if (!isCurrent) return;
        if (!result.ok && result.problem.code === "too_many") {
          await wait((result.retryAfter ?? 1) * 1000);
          continue;
        }
        if (!result.ok) return setCheck({ ...none, problem: result.problem });
        for (const { row, ...error } of result.body.errors) errors.push({ row: part[row].row, text: errorText(form, error) });
        from += part.length;
        setCheck({ checked: from, errors: [...errors], problem: null, isDone: from === items.length });
      }
    };
    setCheck(none);
    run();
    return () => {
      isCurrent = false;
    };
  }, [items, turn]);
  return [check, () => setTurn((previous) => previous + 1)];
}
