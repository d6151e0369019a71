// /providers: the services that Sidekey knows, with their parameters and secrets.
import { useCall } from "../api.js";
import { Search } from "../fields.js";
import { Details, Empty, Loading, Page, Tile } from "../parts.js";
import { Notes } from "../integration_parts.js";
import { hrefWith, setQuery } from "../router.js";
import { mayChange } from "../session.js";
import { html } from "../vendor/preact.js";
import { kindName } from "../words.js";

/** @typedef {import("../api.js").Schemas["Provider"]} Provider */

/** @param {{ query: URLSearchParams }} props */
export default function ProvidersPage({ query }) {
  const q = query.get("q") ?? "";
  const { body, problem } = useCall("/providers", { q });
  const kinds = useCall(q ? "/kinds" : null, { q }).body?.items ?? [];
  /** @type {Provider[]} */
  const providers = [...(body?.items ?? [])].sort((one, other) => one.title.localeCompare(other.title));
  return html`
    <${Page} title="Providers">
      <p>Sidekey knows the addresses and the log-in of these services. You enter what is yours.</p>
      <div class="filters"><${Search} label="Search" example="Search providers: Azure, shop, SMS" value=${q}
        onInput=${(/** @type {string} */ value) => setQuery({ q: value }, { replace: true })} /></div>
      <${Loading} problem=${problem} body=${body} />
      ${body && providers.length === 0 && html`<${Empty}>
        ${kinds.length > 0
          ? kinds.map((/** @type {import("../api.js").Schemas["Kind"]} */ { kind, title }) => html`<p>${title} is a kind of integration.
            ${mayChange("editor") && html`${" "}<a href=${`/ui/add/integrations/${kind}`}>Add it</a>`}</p>`)
          : html`<p>No provider is called that. Most services use OAuth 2.0 or an API key.</p>`}
        <p><a href=${hrefWith({ q: null })}>Clear the search</a></p>
      <//>`}
      <ul class="providers">${providers.map((provider) => html`<${Provider} key=${provider.provider} ...${provider} />`)}</ul>
    <//>
  `;
}

/** @param {Provider} props */
function Provider({ provider, kind, title, aliases, category, notes, documentation }) {
  const canAdd = mayChange("editor");
  return html`
    <li class="card">
      <div class="named"><${Tile} name=${title} /><div class="grow">
        <h2>${title}</h2>
        <p class="soft">${category} · ${kindName(kind)}</p>
        ${aliases.length > 0 && html`<p class="soft clamped">Also called ${aliases.join(", ")}</p>`}
      </div>
      ${canAdd && html`<a class="button" href=${`/ui/add/integrations/${kind}?provider=${provider}`} aria-label=${`Add ${title}`}>Add</a>`}</div>
      <${Details} summary="What you need">
        <${Notes} title=${title} notes=${notes} documentation=${documentation} />
      <//>
    </li>
  `;
}
