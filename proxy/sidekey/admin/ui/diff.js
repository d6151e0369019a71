// The lines in which two YAML texts differ, without the values of secrets.

/** @typedef {{ sign: "-" | "+" | " " | "…", text: string }} Line */

const CONTEXT = 2;
/** Lines of one text times lines of the other. Above, every line counts as changed. */
const LARGEST = 4_000_000;

/** @param {string} before @param {string} after @returns {Line[]} The changed lines, with some around them. */
export function diff(before, after) {
  const one = before.split("\n");
  const other = after.split("\n");
  const [shownOne, shownOther] = [masked(one), masked(other)];
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) start += 1;
  let end = 0;
  while (end < one.length - start && end < other.length - start && one.at(-1 - end) === other.at(-1 - end)) end += 1;
  const middle = compare(one.slice(start, one.length - end), other.slice(start, other.length - end));
  /** @type {Line[]} */
  const all = shownOther.slice(0, start).map((text) => ({ sign: " ", text }));
  let [left, right] = [start, start];
  for (const sign of middle) {
    all.push({ sign, text: sign === "-" ? shownOne[left] : shownOther[right] });
    if (sign !== "+") left += 1;
    if (sign !== "-") right += 1;
  }
  all.push(...shownOther.slice(right).map((text) => /** @type {Line} */ ({ sign: " ", text })));
  return nearChanges(all);
}

/** @param {string[]} one @param {string[]} other @returns {("-" | "+" | " ")[]} By the longest common subsequence. */
function compare(one, other) {
  /** @type {("-" | "+" | " ")[]} */
  const signs = [];
  let [row, column] = [0, 0];
  if (one.length * other.length <= LARGEST) {
    const width = other.length + 1;
    const longest = new Uint32Array((one.length + 1) * width);
    for (let i = one.length - 1; i >= 0; i -= 1) {
      for (let j = other.length - 1; j >= 0; j -= 1) {
        longest[i * width + j] = one[i] === other[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
      }
    }
    while (row < one.length && column < other.length) {
      if (one[row] === other[column]) signs.push(" ");
      else signs.push(longest[(row + 1) * width + column] >= longest[row * width + column + 1] ? "-" : "+");
      const sign = signs[signs.length - 1];
      if (sign !== "+") row += 1;
      if (sign !== "-") column += 1;
    }
  }
  for (; row < one.length; row += 1) signs.push("-");
  for (; column < other.length; column += 1) signs.push("+");
  return signs;
}

/** @param {Line[]} all @returns {Line[]} */
function nearChanges(all) {
  const near = all.map((_, index) => all.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some(({ sign }) => sign !== " "));
  /** @type {Line[]} */
  const found = [];
  all.forEach((line, index) => {
    if (near[index]) found.push(line);
    else if (found.length > 0 && found[found.length - 1].sign !== "…") found.push({ sign: "…", text: "" });
  });
  if (found.at(-1)?.sign === "…") found.pop();
  return found;
}

const MASK = "••••••";
const KEY = /^\s*(?:- +)*(?:["']?value["']?|["']?(?:certificate|private_key|pem)["']?\s*:\s*\{\s*["']?url["']?)\s*:/;

/**
 * Hide the values of secrets: those of the key `value`, and the URLs of certificates, which may contain a token.
 * @param {string[]} lines @returns {string[]}
 */
export function masked(lines) {
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
