// Two people changed an integration at the same time: the second sees the difference and chooses.
import { html } from "../vendor/preact.js";
import { ago } from "../time.js";
import { Difference } from "./advanced.js";

/**
 * @param {{ by: string, at: string, theirs: string, mine: string, isForm: boolean, useMine: (() => void) | null, useTheirs: () => void }} props
 * `theirs` and `mine`: YAML. `useMine`: null if the two cannot be merged.
 */
export function Conflict({ by, at, theirs, mine, isForm, useMine, useTheirs }) {
  return html`
    <section class="banner" role="alert">
      <p><strong>Not saved: ${by} saved this ${ago(at)}.</strong> Your changes are still here. Lines with - are theirs, lines with + are yours.</p>
      <${Difference} before=${theirs} after=${mine} />
      <div class="actions">
        ${useMine && html`<button type="button" class="button" onClick=${useMine}>Use mine</button>`}
        <button type="button" class="button" onClick=${useTheirs}>Use theirs</button>
      </div>
      <p class="help">${isForm
        ? "Mine: your changes are applied to their version. Theirs: your changes are lost. Nothing is saved until you press Save."
        : "Mine: your text replaces their version when you save it. Theirs: your text is lost."}</p>
    </section>
  `;
}
