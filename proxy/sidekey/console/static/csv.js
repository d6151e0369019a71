// Read and write CSV files (RFC 4180) as spreadsheets do: comma or semicolon, UTF-8.

const MAX_ROWS = 1000;

/** Spreadsheets run a cell that begins so as a formula. */
const FORMULA = /^[=+\-@\t\r]/;
const NOT_CSV = "This is not a CSV file in UTF-8. In Excel, save it as “CSV UTF-8 (Comma delimited)”.";
const NEEDS_QUOTES = /[",;\r\n]/;

/**
 * @typedef {{ row: number, cells: string[] }} Row  `row` 1 is the first row below the headings; empty rows count.
 * @typedef {{ separator: string, headings: string[], rows: Row[] }} Table
 */

/**
 * Return the table in a file, or a sentence that says why there is none.
 *
 * @param {BufferSource} bytes
 * @returns {Table | string}
 */
export function read(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return NOT_CSV;
  }
  // UTF-16 without a byte order mark is valid UTF-8 if its characters are ASCII.
  if (text.includes("\0")) return NOT_CSV;
  const separator = separatorOf(text);
  const lines = split(text, separator);
  if (typeof lines === "string") return lines;
  while (lines.length && isEmpty(lines[lines.length - 1])) lines.pop();
  if (lines.length < 2) return "The file has no rows. It needs a line of headings, and rows below it.";
  if (lines.length - 1 > MAX_ROWS) return "The file has more than 1,000 rows. Split it.";
  const headings = lines[0].map((heading) => heading.trim());
  // Spreadsheets also save empty columns that once had content.
  while (headings.at(-1) === "" && lines.every((cells) => !cells[headings.length - 1])) {
    for (const cells of lines) cells.splice(headings.length - 1);
    headings.pop();
  }
  for (const [index, heading] of headings.entries()) {
    if (heading === "") return `Column ${index + 1} has no heading. Add one.`;
    if (headings.indexOf(heading) !== index) return `Two columns are called ${heading}. Rename one.`;
  }
  /** @type {Row[]} */
  const rows = [];
  for (const [row, cells] of lines.entries()) {
    if (row === 0 || isEmpty(cells)) continue;
    if (cells.length !== headings.length) {
      return `Row ${row} has ${cells.length} cells, but there are ${headings.length} headings. Put cells that contain ${separator} into quotes.`;
    }
    rows.push({ row, cells: cells.map(withoutPrefix) });
  }
  return { separator, headings, rows };
}

/**
 * Return a file that spreadsheets open as UTF-8, and in which no cell is a formula.
 *
 * @param {string[][]} lines
 */
export function write(lines, separator = ",") {
  const quoted = (/** @type {string} */ cell) => {
    const safe = FORMULA.test(cell) ? `'${cell}` : cell;
    return NEEDS_QUOTES.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `\ufeff${lines.map((cells) => cells.map(quoted).join(separator) + "\r\n").join("")}`;
}

/** Undo what `write` does to a formula, so that rows of a result can be sent again. */
function withoutPrefix(/** @type {string} */ cell) {
  return cell[0] === "'" && FORMULA.test(cell.slice(1)) ? cell.slice(1) : cell;
}

function isEmpty(/** @type {string[]} */ cells) {
  return cells.every((cell) => cell.trim() === "");
}

/** Return the separator that occurs more often in the line of headings, outside quotes. */
function separatorOf(/** @type {string} */ text) {
  const headings = /^[^"\r\n]*(?:"[^"]*"[^"\r\n]*)*/.exec(text)?.[0].replace(/"[^"]*"/g, "") ?? "";
  return headings.split(";").length > headings.split(",").length ? ";" : ",";
}

/**
 * Split a text into lines of cells.
 *
 * @param {string} text
 * @param {string} separator
 * @returns {string[][] | string}
 */
function split(text, separator) {
  const lines = [];
  let line = [];
  const cell = new RegExp(`(?:"([^"]*(?:""[^"]*)*)"|([^"${separator}\\r\\n]*))(${separator}|\\r\\n|\\r|\\n|$)`, "y");
  while (cell.lastIndex < text.length) {
    const match = cell.exec(text);
    const where = lines.length ? `row ${lines.length}` : "the headings";
    if (!match) return `A quote in ${where} is not closed, or not doubled inside a cell.`;
    line.push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] === separator) {
      // The text ends after a separator: the last cell is empty.
      if (cell.lastIndex === text.length) line.push("");
      else continue;
    }
    lines.push(line);
    line = [];
    if (lines.length > 2 * MAX_ROWS) break;
  }
  if (line.length) lines.push(line);
  return lines;
}
