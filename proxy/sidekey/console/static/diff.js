// The lines that differ between two YAML texts, without the values of secrets.

/** @typedef {{ sign: "-" | "+" | " " | "…", text: string }} Line */

const CONTEXT = 2;
/** Maximum lines of one text times lines of the other. For longer texts, every line counts as changed. */
const MAX_CELLS = 16_000_000;

/** @param {string} before @param {string} after @returns {Line[]} The changed lines, with some around them. */
export function diff(before, after) {
  const [one, other] = [before.split("\n"), after.split("\n")];
  const [shownOne, shownOther] = [maskSecrets(one), maskSecrets(other)];
  const longest = commonLengths(one, other);
  /** @type {Line[]} */
  const all = [];
  for (let [row, column] = [0, 0]; row < one.length || column < other.length; ) {
    const isSame = longest !== null && row < one.length && one[row] === other[column];
    const isOld = row < one.length && (longest === null || column === other.length || longest(row + 1, column) >= longest(row, column + 1));
    const sign = isSame ? " " : isOld ? "-" : "+";
    all.push({ sign, text: isOld && !isSame ? shownOne[row] : shownOther[column] });
    if (sign !== "+") row += 1;
    if (sign !== "-") column += 1;
  }
  return nearChanges(all);
}

/** @param {string[]} one @param {string[]} other Return the length of the longest common subsequence behind two positions, or null for long texts. */
function commonLengths(one, other) {
  const width = other.length + 1;
  if (one.length * other.length > MAX_CELLS) return null;
  const lengths = new Uint16Array((one.length + 1) * width);
  for (let row = one.length - 1; row >= 0; row -= 1) {
    for (let column = other.length - 1; column >= 0; column -= 1) {
      lengths[row * width + column] = one[row] === other[column]
        ? lengths[(row + 1) * width + column + 1] + 1
        : Math.max(lengths[(row + 1) * width + column], lengths[row * width + column + 1]);
    }
  }
  return (/** @type {number} */ row, /** @type {number} */ column) => lengths[row * width + column];
}

/** @param {Line[]} all @returns {Line[]} */
function nearChanges(all) {
  const near = all.map((_, index) => all.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some(({ sign }) => sign !== " "));
  /** @type {Line[]} */
  const lines = [];
  all.forEach((line, index) => {
    if (near[index]) lines.push(line);
    else if (lines.length > 0 && lines[lines.length - 1].sign !== "…") lines.push({ sign: "…", text: "" });
  });
  if (lines.at(-1)?.sign === "…") lines.pop();
  return lines;
}

const MASK = "••••••";
const KEY = /^\s*(?:- +)*(?:["']?value["']?|["']?(?:certificate|private_key|pem)["']?\s*:\s*\{\s*["']?url["']?)\s*:/;

/**
 * Hide the values of secrets: those of the key `value`, and the URLs of certificates, which may contain a token.
 * @param {string[]} lines @returns {string[]}
 */
export function maskSecrets(lines) {
  /** Lines that are indented further belong to a value that is hidden. */
  let hidden = Infinity;
  let above = "";
  return lines.map((line) => {
    const indent = line.length - line.trimStart().length;
    if (line.trim() !== "" && indent <= hidden) hidden = Infinity;
    if (hidden !== Infinity) return line.trim() === "" ? line : `${" ".repeat(indent)}${MASK}`;
    const isUrl = /^\s*["']?url["']?\s*:/.test(line) && /^\s*["']?(?:certificate|private_key|pem)["']?\s*:\s*$/.test(above);
    if (line.trim() !== "") above = line;
    const key = KEY.exec(line);
    if (key === null && !isUrl) {
      // A mapping in one line, such as {value: TEXT}.
      return line.replace(/(\{[^{}]*?["']?value["']?\s*:\s*)(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,}]*)/g, `$1${MASK}`);
    }
    hidden = indent;
    return `${line.slice(0, line.indexOf(":", key === null ? 0 : key[0].length - 1) + 1)} ${MASK}`;
  });
}
