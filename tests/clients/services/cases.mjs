// What the JavaScript services share: they read `BASE FILE CASE...` and print a line for each result.
import { createHash } from "node:crypto";
import process from "node:process";

export const [base, file, ...cases] = process.argv.slice(2);
export const SMALL = "a small body";

/** Print "CASE RESULT"; each result of several at once, as it arrives. */
export async function run(all) {
  for (const name of cases) {
    const result = await all[name]();
    for await (const line of typeof result === "string" ? [result] : result) console.log(name, line);
  }
}

/** The text of a body that arrives in pieces. */
export async function text(body) {
  let whole = "";
  const decoder = new TextDecoder();
  for await (const piece of body) whole += decoder.decode(piece, { stream: true });
  return whole;
}

/** The digest of a body that arrives in pieces, as hexadecimal digits. */
export async function digest(body) {
  const hash = createHash("sha256");
  for await (const piece of body) hash.update(piece);
  return hash.digest("hex");
}

/** The data of server-sent events. */
export async function* events(body) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}
