// Send the rows of a CSV file: choose it, check it, send it, download the result.
import { post, useCall } from "../api.js";
import { read, write } from "../csv.js";
import { Run } from "../csv_run.js";
import { Check as CheckBox, Choice, FileInput, Text } from "../fields.js";
import { bodyOf, labelOf, parametersOf } from "../form_of_preset.js";
import { Busy, Details, download, Problem, announce, Time } from "../parts.js";
import { useLeaveQuestion, setQuery } from "../router.js";
import { mayHaveArrived, newKey, send, wait } from "../sending.js";
import { me, mayChange } from "../session.js";
import { number } from "../time.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { countsText, outcomeWords } from "../words.js";
import { lastRun, ownSends } from "./sends.js";

/**
 * @typedef {import("../form_of_preset.js").Form} Form
 * @typedef {import("../form_of_preset.js").Values} Values
 * @typedef {import("../csv.js").Table} Table
 * @typedef {import("../csv_run.js").RowResult} RowResult
 * @typedef {{ row: number, values: Values, text: string }} Item `text`: its parameters as JSON.
 * @typedef {{ row: number, pointer: string, detail: string }} RowError
 * @typedef {{ checked: number, errors: RowError[], problem: import("../api.js").Problem | null, isDone: boolean }} Check
 */

const MAX_FILE_SIZE = 5 << 20;
const MAX_CHECKED = 100;
const MAX_SHOWN = 20;
const MAX_PREVIEWED = 3;
const DAY = 86_400_000;
/** Not 4.47701E+11, which Excel makes of a long number. */
const PHONE = /^[+(]?(?:[ ()./-]*\d){5,}[ ()./-]*$/;
/** Spreadsheets separate cells by semicolons where people write 1,5. */
const SPREADSHEET = (1.5).toLocaleString().includes(",") ? ";" : ",";
/** Begins the headings of a result, which are no columns of a file that is sent again. */
const RESULT_PREFIX = "Sidekey: ";
/** @type {Record<string, string>} */
const SEPARATOR_NAMES = { ",": "comma", ";": "semicolon" };
/** Values that tell a person which row is meant. */
const MAX_NAMING_VALUES = 2;
const MAX_NAME_LENGTH = 40;
const BOOLEANS = { true: true, yes: true, 1: true, false: false, no: false, 0: false };

/** Outcomes of contents that may have arrived, by preset and content, as long as the page is open. @type {Map<string, RowResult>} */
const arrived = new Map();

/** @param {{ form: Form, query: URLSearchParams }} props */
export function SendCsv({ form, query }) {
  const [file, setFile] = useState(/** @type {{ name: string, table: Table } | null} */ (null));
  const [error, setError] = useState("");
  const [columns, setColumns] = useState(/** @type {string[]} */ ([]));
  const startRow = query.get("start") ?? "1";
  const [start, setStart] = useState(startRow);
  useEffect(() => setStart(startRow), [startRow]);
  /** @type {{ current: Map<number, RowResult> }} */
  const results = useRef(new Map());
  /** Contents that may have arrived before this file was chosen. @type {{ current: typeof arrived }} */
  const arrivedBefore = useRef(new Map());
  /** The fields of headings that a person chose, for the next file. @type {{ current: Map<string, string> }} */
  const chosenFields = useRef(new Map());
  const [skipsAccepted, setSkipsAccepted] = useState(true);
  const [run, setRun] = useState(/** @type {Run | null} */ (null));
  const [, redraw] = useState(0);
  /** @type {{ current: HTMLElement | null }} */
  const input = useRef(null);
  const isBusy = run !== null && run.isBusy;
  const isOpen = !isBusy && (run === null || run.position < run.items.length);
  useLeaveQuestion(() => isBusy, "The file is still being sent. If you leave, it stops after this row.");
  useEffect(() => () => run?.isBusy && run.stop(), [run]);
  const parameters = JSON.stringify(form.parameters);
  const items = useMemo(() => (file ? itemsOf(form, file.table, columns) : []), [file, columns, parameters]);
  const mapping = file ? mappingErrors(form, file.table, columns) : [];
  const [check, checkAgain] = useCheck(form, mapping.length === 0 ? items : NO_ITEMS);

  /** @param {File} chosen */
  const choose = async (chosen) => {
    setError("");
    setFile(null);
    const table = chosen.size > MAX_FILE_SIZE ? "The file is larger than 5 MB. Split it." : await contentOf(chosen);
    if (typeof table === "string") return setError(table);
    results.current = new Map();
    arrivedBefore.current = new Map(arrived);
    setRun(null);
    setSkipsAccepted(true);
    setColumns(table.headings.map((heading) => chosenFields.current.get(heading) ?? matching(form, heading)));
    setFile({ name: chosen.name, table });
    setStart(startRow);
    return announce(`${chosen.name}: ${table.rows.length} rows.`);
  };
  const first = /^[0-9]{1,4}$/.test(start.trim()) ? Number(start) : 0;
  const resultsInFile = useMemo(() => (file ? resultsIn(file.table) : new Map()), [file]);
  const key = (/** @type {string} */ text) => `${form.id}\n${text}`;
  /** @param {Item} item @returns {RowResult | undefined} The result of an earlier send that may have arrived. */
  const earlierResult = ({ row, text }) => [results.current.get(row), resultsInFile.get(row), arrivedBefore.current.get(key(text))].find((result) => result && mayRepeat(result));
  /** @type {Map<number, RowError[]>} */
  const errorsOf = new Map();
  for (const error of check.errors) errorsOf.set(error.row, [...(errorsOf.get(error.row) ?? []), error]);
  const validItems = items.filter(({ row }) => !errorsOf.has(row));
  const remaining = validItems.filter(({ row }) => first > 0 && row >= first);
  const before = new Set(remaining.filter((item) => isAccepted(earlierResult(item))));
  const chosen = skipsAccepted ? remaining.filter((item) => !before.has(item)) : remaining;
  /** The last row of a run. Rows below it are left out, so nobody is asked to go on with them. */
  const end = chosen.at(-1)?.row ?? 0;
  const begin = () => {
    const id = newKey();
    const rows = chosen.map(({ row, values, text }) => ({ row, text, body: bodyOf(form, values, { batch: { id, rows: end } }) }));
    for (const [row, errors] of errorsOf) if (row >= first) results.current.set(row, { outcome: "left_out", errors });
    if (skipsAccepted) {
      for (const item of before) {
        if (!results.current.has(item.row)) results.current.set(item.row, { ...earlierResult(item), outcome: "accepted_before" });
      }
    }
    // The next file begins at its first row.
    setQuery({ start: null, rows: null }, { replace: true });
    const next = new Run(rows, results.current, {
      send: async ({ row, body, text }, onFetch, isCancelled) => {
        const sent = await send(form.id, `${id}-${row}`, body, { onFetch, isCancelled });
        if (mayHaveArrived(sent)) arrived.set(key(text), "send" in sent ? sent.send : { outcome: "unknown" });
        return sent;
      },
      wait,
      now: Date.now,
      onChange: () => {
        lastRun.value = { id, run: next, goOn: () => goOn(next) };
        if (next.phase === "stopped") setStart(String(next.items[next.position]?.row ?? 1));
        redraw((previous) => previous + 1);
      },
      perMinute: me.value?.per_minute ?? null,
    });
    setRun(next);
    goOn(next);
  };
  /** @param {Run} current */
  const goOn = async (current) => {
    announce("Sending…");
    await current.go();
    announce(endText(current));
  };
  /** @param {number} index @param {string} name */
  const setColumn = (index, name) => {
    chosenFields.current.set(/** @type {Table} */ (file?.table).headings[index], name);
    setColumns(columns.with(index, name));
  };

  return html`
    <section class="card pad" ref=${input}>
      <h2>1. Choose a file</h2>
      ${query.has("start") && !file && html`<p>Choose the same file again. Sidekey does not keep it.</p>`}
      <${FileInput} label="CSV file" accept=".csv,text/csv" onFile=${choose} error=${error} disabled=${isBusy}
        help="Comma or semicolon, UTF‑8, at most 1,000 rows. You can also drop the file here." />
      ${!file && html`<button type="button" class="link" onClick=${() => download(`${form.id}.csv`, write([form.parameters.map(headingOf(form))], SPREADSHEET))}>
        Download an empty file
      </button>`}
    </section>
    ${file && html`
      <section class="card pad">
        <h2>2. Check</h2>
        <${Checked} form=${form} file=${file} columns=${columns} items=${items} validItems=${validItems} chosen=${isOpen ? chosen : NO_ITEMS} mapping=${mapping}
          setColumn=${setColumn} check=${check} checkAgain=${checkAgain} disabled=${isBusy} expected=${Number(query.get("rows") ?? 0)} />
      </section>
    `}
    ${file && (isBusy || (check.isDone && validItems.length > 0)) && html`
      <section class="card pad">
        <h2>3. Send</h2>
        ${isBusy
          ? html`<${Progress} run=${run} goOn=${() => goOn(run)} />`
          : html`<${Begin} form=${form} start=${start} setStart=${setStart} first=${first} last=${validItems.at(-1)?.row ?? 0} end=${end} count=${chosen.length} begin=${begin} run=${run} isOpen=${isOpen}
              wrong=${errorsOf.size} another=${() => input.current?.querySelector("input")?.click()} before=${before.size} skipsAccepted=${skipsAccepted} setSkipsAccepted=${setSkipsAccepted}
              uncertain=${chosen.filter((item) => earlierResult(item) && !before.has(item)).length} />`}
      </section>
    `}
    ${file && results.current.size > 0 && html`
      <section class="card pad">
        <h2>4. Result</h2>
        <${Results} form=${form} file=${file} results=${results.current} naming=${rowNamer(form, items, columns)} />
      </section>
    `}
  `;
}

/** @param {{ form: Form, file: { name: string, table: Table }, columns: string[], setColumn: (index: number, name: string) => void, items: Item[],
 *   validItems: Item[], chosen: Item[], mapping: string[], check: Check, checkAgain: () => void,
 *   disabled: boolean, expected: number }} props `validItems`: items without an error. `chosen`: those that are sent. */
function Checked({ form, file, columns, setColumn, items, validItems, chosen, mapping, check, checkAgain, disabled, expected }) {
  const { headings, rows, separator } = file.table;
  // It stays open once the person has chosen the fields.
  const opens = useRef(headings.some((heading, index) => columns[index] === "" && !heading.startsWith(RESULT_PREFIX)));
  /** @type {[string, string][]} */
  const options = [["", "(not used)"], ...form.parameters.map((parameter) => /** @type {[string, string]} */ ([parameter.name, labelOf(parameter)]))];
  const used = form.parameters.filter(({ name }) => columns.includes(name));
  const same = useMemo(() => (check.isDone ? repeated(validItems) : []), [check]);
  const phones = used.filter(({ format }) => format === "phone");
  const oddPhones = validItems.flatMap(({ row, values }) => phones.filter((parameter) => values[parameter.name] && !PHONE.test(String(values[parameter.name]).trim()))
    .map((parameter) => `Row ${row}: ${labelOf(parameter)} is ${values[parameter.name]}`));
  const wrong = items.length - validItems.length;
  // Most rows fail where a column goes into the wrong field.
  if (wrong > validItems.length) opens.current = true;
  const name = rowNamer(form, items, columns);
  const absent = form.parameters.filter(({ name, default: value }) => !columns.includes(name) && value !== null && value !== "");
  const last = validItems.at(-1)?.row;
  return html`
    <p><strong>${file.name}</strong>: ${rowsText(rows.length)}, ${SEPARATOR_NAMES[separator]}.</p>
    ${expected > 0 && check.isDone && last && expected !== last && html`<p class="banner">This file may not be the one that you began with: its last row without an error is row ${last}, not ${expected}.</p>`}
    ${mapping.length === 0 && !check.isDone && !check.problem && html`<${Busy} text=${`Checking: ${check.checked} of ${items.length} rows…`} />`}
    ${check.problem && html`<${Problem} problem=${check.problem} /><button type="button" class="button" onClick=${checkAgain}>Check again</button>`}
    <${Lines} title=${(/** @type {number} */ count) => validItems.length === 0
      ? "No row can be sent. Correct the file, and choose it again:" : `${rowsText(count)} cannot be sent and ${count === 1 ? "is" : "are"} left out:`} mood="bad" count=${wrong}
      lines=${mapping.length === 0 ? check.errors.map((error) => `${name(error.row)}: ${errorText(form, error)}`) : []} />
    <${Lines} title=${() => "These do not look like phone numbers. They are sent unchanged:"} mood="warning" lines=${oddPhones} count=${oddPhones.length} />
    <${Lines} title=${() => "These rows have the same content. Each of them is sent:"} mood="warning" lines=${same} count=${same.length} />
    <${Details} summary="Which column goes into which field?" open=${opens.current}>
      <div class="mapping">
        ${headings.map((heading, index) => !heading.startsWith(RESULT_PREFIX) && html`<${Choice} key=${index} label=${`Column ${heading}`} value=${columns[index]}
          options=${options} disabled=${disabled} onInput=${(/** @type {string} */ field) => setColumn(index, field)} />`)}
      </div>
    <//>
    ${absent.length > 0 && html`<p class="help">Without a column: ${absent.map((parameter) => `${labelOf(parameter)} is ${parameter.default}`).join(", ")}.</p>`}
    ${mapping.map((text) => html`<p class="error">${text}</p>`)}
    ${mapping.length > 0 && html`<p class="help">The first line of the file must be its headings. Here it is: ${headings.join(", ")}.</p>`}
    ${used.length > 0 && chosen.length > 0 && html`
      <h3>The first rows to send</h3>
      <div class="scroll" tabindex="0" role="region" aria-label="Preview">
        <table class="list">
          <thead><tr><th scope="col">Row</th>${used.map((parameter) => html`<th scope="col">${labelOf(parameter)}</th>`)}</tr></thead>
          <tbody>${chosen.slice(0, MAX_PREVIEWED).map(({ row, values }) => html`
            <tr><th scope="row">Row ${row}</th>${used.map((parameter) => html`<td data-label=${labelOf(parameter)}>${cellText(values[parameter.name])}</td>`)}</tr>
          `)}</tbody>
        </table>
      </div>
    `}
  `;
}

/** @param {{ title: (count: number) => string, lines: string[], count: number, mood: string, children?: any }} props */
function Lines({ title, lines, count, mood, children }) {
  if (lines.length === 0) return null;
  return html`
    <div class=${`banner ${mood}`}>
      <p>${title(count)}</p>
      <ul>${lines.slice(0, MAX_SHOWN).map((line) => html`<li>${line}</li>`)}</ul>
      ${lines.length > MAX_SHOWN && html`<p>And ${lines.length - MAX_SHOWN} more.</p>`}
      ${children}
    </div>
  `;
}

/** @param {{ form: Form, start: string, setStart: (start: string) => void, first: number, last: number, end: number, count: number, begin: () => void,
 *   run: Run | null, isOpen: boolean, wrong: number, another: () => void, before: number, skipsAccepted: boolean, setSkipsAccepted: (leaves: boolean) => void, uncertain: number }} props
 * `isOpen`: rows are left. `wrong`: how many rows have errors. `before`: how many rows were accepted before. `uncertain`: how many may have arrived before. */
function Begin({ form, start, setStart, first, last, end, count, begin, run, isOpen, wrong, another, before, skipsAccepted, setSkipsAccepted, uncertain }) {
  const isInside = first > 0 && first <= last;
  return html`
    ${run && html`<p class=${run.areAllAccepted ? "banner good" : "banner"}><strong>${endText(run)}</strong> ${leftText(run)}</p>`}
    ${isOpen && html`
      ${before > 0 && html`
        <${CheckBox} label=${`Leave out ${rowsText(before)} that ${before === 1 ? "was" : "were"} accepted before`} value=${skipsAccepted} onInput=${setSkipsAccepted}
          help="The file marks them as accepted, or you have sent the same content from this page." />
      `}
      ${uncertain > 0 && html`<p class="banner">${rowsText(uncertain)} may have arrived before, with an error or an unknown result. Check at the service before you send again.</p>`}
      ${run === null && before === 0 && html`<${Earlier} form=${form} first=${first} end=${end} />`}
      <p>${paceText(count)}</p>
      <div class="actions">
        <button type="button" class="button primary" disabled=${!isInside || count === 0 || form.problem || !mayChange("send")} onClick=${begin}>${wrong > 0
          ? `Send the ${number(count)} good ${count === 1 ? "row" : "rows"}` : `Send ${rowsText(count)}`}</button>
        ${wrong > 0 && html`<button type="button" class="button" onClick=${another}>Choose another file</button>`}
        <span class="help">They go out at once and cannot be taken back.</span>
      </div>
      <${Details} summary="Start at another row" open=${!isInside || start !== "1"}>
        <${Text} label="Start at row" type="number" value=${start} onInput=${setStart} help="Row 1 is the first row below the headings."
          error=${isInside ? "" : `Enter a row between 1 and ${last}.`} />
      <//>
    `}
  `;
}

/** @param {{ form: Form, first: number, end: number }} props
 * Warn if this may be a file that was sent beyond row `first`: one of the last day, or one with the same last row.
 * Sidekey does not keep contents, and this page knows only those that it sent itself. */
function Earlier({ form, first, end }) {
  const { body } = useCall("/sends", { preset: form.id, who: ownSends(form.id) });
  const isKnown = (/** @type {string} */ id) => [...arrived.values()].some(({ batch }) => batch?.id === id);
  const previous = body?.items.find((/** @type {import("../sending.js").Send} */ { at, batch }) =>
    batch && first > 0 && first <= batch.row && batch.row <= end && !isKnown(batch.id) && (batch.rows === end || Date.now() - new Date(at).getTime() < DAY));
  if (!previous) return null;
  const { row } = previous.batch;
  return html`<p class="banner">You sent a file up to row ${row} <${Time} at=${previous.at} />. If it is this file, ${first === row
    ? `row ${row}` : `rows ${first} to ${row}`} would be sent again: <a href=${`/ui/send/${encodeURIComponent(form.id)}?tab=sends`}>see Your sends</a>.</p>`;
}

/** @param {number} count "1 row", "1,000 rows". */
const rowsText = (count) => `${number(count)} ${count === 1 ? "row" : "rows"}`;

/** @param {Run} run */
function endText({ phase, note, items, results }) {
  if (phase !== "done") return `${phase === "paused" ? "Paused" : "Stopped"}${note ? `: ${note}` : "."}`;
  const accepted = items.filter(({ row }) => results.get(row)?.outcome === "accepted").length;
  return `Done: ${number(accepted)} of ${number(items.length)} rows were accepted.`;
}

/** @param {Run} run */
function leftText({ items, position }) {
  const count = items.length - position;
  if (count === 0) return "";
  return count === 1 ? "1 row is left: the result says which." : `${number(count)} rows are left: the result says which.`;
}

/** @param {number} count How long the rows take, and whether they are more than a day's limit. */
function paceText(count) {
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
    <p>${phase === "paused" ? endText(run) : isEnding ? "Waiting for the row that is under way…" : note}</p>
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
  const counts = {};
  for (const { outcome: name } of results) counts[name] = (counts[name] ?? 0) + 1;
  return countsText(counts);
}

/** @param {{ form: Form, file: { name: string, table: Table }, results: Map<number, RowResult>, naming: (row: number) => string }} props */
function Results({ form, file, results, naming: name }) {
  const others = [...results].filter(([, result]) => !isAccepted(result)).sort(([a], [b]) => a - b);
  const advice = new Set(others.map(([, result]) => (result.outcome === "refused" ? wordsOf(result).advice : "")).filter(Boolean));
  const hints = form.parameters.filter(({ help, example }) => help || example);
  const target = `${file.name.replace(/\.csv$/i, "")}-result.csv`;
  return html`
    <p>${counts(results.values())}</p>
    <div class="actions"><button type="button" class="button" onClick=${() => download(target, resultOf(file.table, results))}>Download the result</button></div>
    <${Lines} title=${() => "Not accepted:"} mood="warning" count=${others.length} lines=${others.map(([row, result]) => rowText(form, name(row), result))}>
      ${[...advice].map((text) => html`<p>${text}</p>`)}
      ${advice.size > 0 && hints.map((parameter) => html`<p class="help"><strong>${labelOf(parameter)}</strong>: ${parameter.help} ${parameter.example && `Example: ${parameter.example}`}</p>`)}
    <//>
  `;
}

/** @param {RowResult} result */
const wordsOf = (result) => outcomeWords(/** @type {import("../words.js").Send} */ (result));

/** @param {RowResult | undefined} result */
const isAccepted = (result) => result?.outcome === "accepted" || result?.outcome === "accepted_before";

/** @param {RowResult} result Return True if the row could arrive a second time. */
const mayRepeat = (result) => isAccepted(result) || result.outcome === "failed" || result.outcome === "unknown";

/** @param {Form} form @param {Item[]} items @param {string[]} columns Return a function that names a row by its line in a spreadsheet and its first values. */
function rowNamer({ parameters }, items, columns) {
  const used = columns.filter((name) => parameters.some((parameter) => parameter.name === name));
  const byRow = new Map(items.map((item) => [item.row, item]));
  return (/** @type {number} */ row) => {
    const texts = used.map((name) => String(byRow.get(row)?.values[name] ?? "").trim()).filter(Boolean).slice(0, MAX_NAMING_VALUES);
    const cut = texts.map((text) => (text.length > MAX_NAME_LENGTH ? `${text.slice(0, MAX_NAME_LENGTH)}…` : text));
    return `Row ${row} (${[`line ${row + 1}`, ...cut].join(", ")})`;
  };
}

/** @param {Form} form @param {string} row @param {RowResult} result */
function rowText(form, row, result) {
  if (result.errors) return `${row}: ${result.outcome === "left_out" ? "left out" : "not sent"}. ${result.errors.map((error) => errorText(form, error)).join(" ")}`;
  const text = result.outcome === "unknown" ? `check at ${result.host || "the service"} before you send it again.` : wordsOf(result).text;
  return `${row}: ${text}${result.request_id ? ` Request ${result.request_id}` : ""}`;
}

/** @param {Table} table @param {Map<number, RowResult>} results The rows from the first that was sent. */
function resultOf({ headings, rows, separator }, results) {
  const from = Math.min(...results.keys());
  const columns = headings.map((heading, index) => ({ heading, index })).filter(({ heading }) => !heading.startsWith(RESULT_PREFIX));
  const lines = rows.filter(({ row }) => row >= from).map(({ row, cells }) => {
    const result = results.get(row);
    const line = [String(row), ...columns.map(({ index }) => cells[index])];
    if (!result) return [...line, "not sent yet", "", "", ""];
    return [...line, result.outcome.replace("_", " "), String(result.status || ""), result.at ?? "", result.request_id ?? ""];
  });
  const names = ["outcome", "status", "time", "request ID"].map((name) => RESULT_PREFIX + name);
  return write([[`${RESULT_PREFIX}row`, ...columns.map(({ heading }) => heading), ...names], ...lines], separator);
}

/** @param {Table} table @returns {Map<number, RowResult>} The results that a file has, if it is a result itself. */
function resultsIn({ headings, rows }) {
  const [outcomes, statuses, times, requests] = ["outcome", "status", "time", "request ID"].map((name) => headings.indexOf(RESULT_PREFIX + name));
  if (outcomes < 0) return new Map();
  return new Map(rows.map(({ row, cells }) => [row, {
    outcome: /** @type {import("../csv_run.js").Outcome} */ (cells[outcomes].replace(" ", "_")),
    status: Number(cells[statuses] ?? 0),
    at: cells[times] ?? "",
    request_id: cells[requests] ?? "",
  }]));
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
const headingOf = (form) => (/** @type {Form["parameters"][number]} */ parameter) => {
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
      const cell = cells[index].trim() === "" ? "" : cells[index];
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
const cellText = (value) => (value === true ? "true" : value === false ? "false" : (value ?? ""));

/** @param {Form} form @param {{ pointer: string, detail: string }} error */
function errorText({ parameters }, { pointer, detail }) {
  const name = pointer.replace(/^\/parameters(?=\/)/, "").slice(1);
  const parameter = parameters.find((parameter) => parameter.name === name);
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
        const part = items.slice(from, from + MAX_CHECKED);
        const result = await post(`/presets/${encodeURIComponent(form.id)}/check`, `{"rows":[${part.map(({ text }) => text).join(",")}]}`);
        if (!isCurrent) return;
        if (!result.ok && result.problem.code === "too_many") {
          await wait((result.retryAfter ?? 1) * 1000);
          continue;
        }
        if (!result.ok) return setCheck({ ...none, problem: result.problem });
        for (const { row, ...error } of result.body.errors) errors.push({ row: part[row].row, ...error });
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
