// /add/integrations: choose a kind of authentication, or a service, by common words.
import { useCall } from "../api.js";
import { Search } from "../fields.js";
import { Details, Loading, Page, Tile } from "../parts.js";
import { setQuery } from "../router.js";
import { html } from "../vendor/preact.js";
import { kindName } from "../words.js";

/** @typedef {import("../api.js").Schemas["Kind"]} Kind */
/** @typedef {import("../api.js").Schemas["Provider"]} Provider */

/** Number of visible kinds. The rest is below "More". */
const COMMON = 5;

/** @param {{ query: URLSearchParams }} props */
export default function AddPage({ query }) {
  const q = query.get("q") ?? "";
  const kinds = useCall("/kinds", { q });
  const providers = useCall("/providers", { q });
  /** @type {Kind[]} */
  const found = kinds.body?.items ?? [];
  /** @type {Provider[]} */
  const known = [...(providers.body?.items ?? [])].sort((one, other) => one.title.localeCompare(other.title));
  const crumbs = html`<a href="/ui/integrations">Integrations</a> / Add`;
  return html`
    <${Page} title="Add integration" crumbs=${crumbs}>
      <div class="filters"><${Search} label="What do you want to connect to?" example="What do you want to connect to? such as Azure, bearer, SMS"
        value=${q} onInput=${(/** @type {string} */ value) => setQuery({ q: value }, { replace: true })} autofocus /></div>
      <${Loading} problem=${kinds.problem ?? providers.problem} body=${kinds.body && providers.body} />
      ${!kinds.body || !providers.body ? null : q ? html`<${Found} kinds=${found} providers=${known} />` : html`<${All} kinds=${found} providers=${known} />`}
    <//>
  `;
}

/** @param {{ kinds: Kind[], providers: Provider[] }} props */
function All({ kinds, providers }) {
  const popular = providers.filter((provider) => provider.popular);
  return html`
    <h2>How does it authenticate?</h2>
    <${Kinds} kinds=${kinds.slice(0, COMMON)} />
    <${Details} summary="More: signed requests, sessions, JWT, AWS"><${Kinds} kinds=${kinds.slice(COMMON)} /><//>
    <h2>Popular</h2>
    <${Providers} providers=${popular} />
    <${Details} summary=${`All ${providers.length} providers (A to Z)`}><${Providers} providers=${providers} /><//>
  `;
}

/** @param {{ kinds: Kind[], providers: Provider[] }} props */
function Found({ kinds, providers }) {
  if (providers.length === 0 && kinds.length === 0) {
    return html`<div role="status">
      <p>No provider is called that. Most services use <a href="/ui/add/integrations/oauth2">OAuth 2.0</a> or${" "}
        <a href="/ui/add/integrations/headers">an API key</a>.</p>
    </div>`;
  }
  return html`
    <p class="hidden" role="status">${providers.length + kinds.length} found</p>
    ${providers.length > 0 && html`<h2>Providers</h2><${Providers} providers=${providers} />`}
    ${kinds.length > 0 && html`<h2>How does it authenticate?</h2><${Kinds} kinds=${kinds} />`}
  `;
}

/** @param {{ kinds: Kind[] }} props */
function Kinds({ kinds }) {
  return html`<ul class="tiles">${kinds.map(({ kind, title, summary }) => html`
    <li class="card" key=${kind}><div><a href=${`/ui/add/integrations/${kind}`}>${title}</a><p class="soft">${summary}</p></div></li>
  `)}</ul>`;
}

/** @param {{ providers: Provider[] }} props */
function Providers({ providers }) {
  return html`<ul class="tiles">${providers.map(({ provider, kind, title, aliases }) => html`
    <li class="card" key=${provider}><${Tile} name=${title} /><div>
      <a href=${`/ui/add/integrations/${kind}?provider=${provider}`}>${title}</a>
      <p class="soft">${[kindName(kind), ...aliases.slice(0, 2)].join(" · ")}</p>
    </div></li>
  `)}</ul>`;
}
