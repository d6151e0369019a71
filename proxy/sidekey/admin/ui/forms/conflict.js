// Two people changed an integration at the same time: the second sees the differences and chooses.
import { html } from "../vendor/preact.js";
import { ago } from "../time.js";
import { differences, isSame, isStored, valueAt } from "./document.js";
import { setBy } from "./sentences.js";
import { Difference } from "./advanced.js";

/**
 * @param {{ by: string, at: string, base: any, mine: any, theirs: any, texts: { mine: string, theirs: string } | null,
 *   canMerge: boolean, useMine: () => void, useTheirs: () => void }} props
 * `base`: what both have changed. `texts`: the documents as YAML, if mine was written as YAML. `canMerge`: both are of one kind.
 */
export function Conflict({ by, at, base, mine, theirs, texts, canMerge, useMine, useTheirs }) {
  /** @param {any} document @param {string[]} path */
  const changed = (document, path) => (isSame(valueAt(base, path), valueAt(document, path)) ? html`<span class="soft">(unchanged)</span>` : textOf(valueAt(document, path)));
  return html`
    <section class="banner conflict" role="alert">
      <p><strong>Not saved: ${by} saved this ${ago(at)}.</strong> Your changes are still here.</p>
      ${texts === null
        ? html`
          <table class="list">
            <thead><tr><th scope="col">Key</th><th scope="col">Mine</th><th scope="col">Theirs</th></tr></thead>
            <tbody>${differences(theirs, mine).map((path) => html`
              <tr>
                <th scope="row"><code>${path.join(".")}</code></th>
                <td data-label="Mine">${changed(mine, path)}</td>
                <td data-label="Theirs">${changed(theirs, path)}</td>
              </tr>
            `)}</tbody>
          </table>`
        : html`<${Difference} before=${texts.theirs} after=${texts.mine} />`}
      <div class="actions">
        ${canMerge && html`<button type="button" class="button" onClick=${useMine}>Use mine</button>`}
        <button type="button" class="button" onClick=${useTheirs}>Use theirs</button>
      </div>
      <p class="help">${texts === null
        ? "Mine: your changes are applied to their version. Theirs: your changes are lost. Nothing is saved until you press Save."
        : "Mine: your text replaces their version when you save it. Theirs: your text is lost."}</p>
    </section>
  `;
}

/** @param {any} value */
function textOf(value) {
  if (value === undefined) return "(not set)";
  if (isStored(value)) return setBy(value);
  if (typeof value?.value === "string") return "(a new secret)";
  return typeof value === "string" ? value : JSON.stringify(value);
}
