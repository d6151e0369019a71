// A path that no route fits.
import { html } from "../vendor/preact.js";
import { Page } from "../parts.js";

export default function MissingPage() {
  return html`<${Page} title="This page does not exist"><p>Go to <a href="/ui/">the first page</a>.</p><//>`;
}
