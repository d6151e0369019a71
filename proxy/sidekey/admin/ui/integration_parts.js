// What the list and the page of one integration have in common.
import { State } from "./parts.js";
import { html } from "./vendor/preact.js";
import { standingText } from "./words.js";

/** @typedef {import("./api.js").Schemas["IntegrationItem"]} Item */

/** @param {{ id: string, title?: string }} item The name that people see. */
export const nameOf = (item) => item.title || item.id;

/** @param {string[]} hosts */
export function hostsOf(hosts) {
  if (hosts.length === 0) return "";
  return hosts.length === 1 ? hosts[0] : `${hosts[0]} and ${hosts.length - 1} more`;
}

/** @param {{ item: Pick<Item, "status" | "expires_at" | "failing_since"> }} props */
export function IntegrationState({ item }) {
  return html`<${State} status=${item.status} text=${standingText(item)} />`;
}

/** @param {string} name @param {string} text Save a text as a file of this name. */
export function saveAs(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The download has begun when the click returns.
  URL.revokeObjectURL(url);
}
