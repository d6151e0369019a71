// Parts that the list and the page of an integration share.
import { get } from "./api.js";
import { Details, showNotice, download } from "./parts.js";
import { html } from "./vendor/preact.js";
import { testWords } from "./words.js";

/** @typedef {import("./api.js").Schemas["IntegrationItem"]} Item */

/** @param {{ id: string, title?: string }} item The name that people see. */
export const nameOf = (item) => item.title || item.id;

/** @param {string[]} hosts */
export function hostsOf(hosts) {
  if (hosts.length === 0) return "";
  return hosts.length === 1 ? hosts[0] : `${hosts[0]} and ${hosts.length - 1} more`;
}

/** @param {string} name @param {string[]} ids Save integrations as a file of this name. @returns {Promise<import("./api.js").Problem | null>} */
export async function exportAs(name, ids) {
  const result = await get("/export", { query: { id: ids.join(",") } });
  if (!result.ok) return result.problem;
  download(name, result.body);
  showNotice("Exported. Secrets are not included.");
  return null;
}

/** @typedef {{ id: string, updated_at: string | null }} Version */

/** @type {Map<string, { at: string | null, isTested: boolean, warnings: string[] }>} The last version of each integration that this person saved. */
const saves = new Map();

/** @param {Version & { warnings?: string[] }} saved The response to the change. @param {boolean} isTested A test of this content succeeded before. */
export function noteSave({ id, updated_at, warnings = [] }, isTested) {
  saves.set(id, { at: updated_at, isTested, warnings });
}

/** @param {Version} version */
function saveOf({ id, updated_at }) {
  const save = saves.get(id);
  return save?.at === updated_at ? save : undefined;
}

/** @param {Version} version Return when a version was saved that was tested before, or "". */
export function testedBeforeSaving(version) {
  return (saveOf(version)?.isTested && version.updated_at) || "";
}

/** @param {Version} version The warnings of the response that saved this version. */
export function warningsOnSaving(version) {
  return saveOf(version)?.warnings ?? [];
}

/** @param {{ result: Parameters<typeof testWords>[0], hasWorked?: boolean, children?: any }} props The result of a test, with what to do. */
export function TestBanner({ result, hasWorked = false, children }) {
  const { mood, text, advice } = testWords(result, hasWorked);
  return html`<div class=${`banner ${mood}`}><p><strong>${text}</strong> ${advice} ${children}</p></div>`;
}

/** @param {Pick<import("./api.js").Schemas["Provider"], "title" | "notes" | "documentation">} props Notes of a provider, one sentence a line. Sentences about keys are for few people. */
export function Notes({ title, notes, documentation }) {
  const sentences = notes.split(/(?<=[.!?]) (?=[A-Z`])/);
  const isSpecial = (/** @type {string} */ sentence) => /`[a-z]+_[a-z_]+`/.test(sentence);
  const special = sentences.filter(isSpecial);
  return html`
    <ul class="notes">${sentences.filter((sentence) => !isSpecial(sentence)).map((sentence) => html`<li>${withCode(sentence)}</li>`)}</ul>
    ${special.length > 0 && html`<${Details} summary="Special cases, under Advanced">
      <ul class="notes">${special.map((sentence) => html`<li>${withCode(sentence)}</li>`)}</ul>
    <//>`}
    <p><a href=${documentation} target="_blank" rel="noreferrer">Documentation of ${title}</a></p>
  `;
}

/** @param {string} text Draw what is between backticks as code. */
export function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part));
}
