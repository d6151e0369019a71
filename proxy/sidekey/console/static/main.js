// Starts the console: who is logged in, the bar at the top, and the page of the URL.
import { effect, html, render, signal, useEffect, useState } from "./vendor/preact.js";
import { Dialogs } from "./dialog.js";
import { onKey, showKeys } from "./keys.js";
import { Details, Page, Problem, Spoken } from "./parts.js";
import { go, here, match, start, view } from "./router.js";
import { BAR, ROUTES } from "./routes.js";
import { loadSession, logOut, may, me, store, wasReloadedForOtherPerson } from "./session.js";
import { ROLES, logInProblem, personName } from "./words.js";

const POLL = 30_000;

const notice = signal("");

function App() {
  return html`
    <a class="skip" href="#main">Skip to the page</a>
    <${Bar} />
    <main id="main" tabindex="-1">
      <${Notices} />
      <${CurrentPage} />
    </main>
    <${Dialogs} />
    <${Spoken} />
  `;
}

function Bar() {
  const [problem, setProblem] = useState(/** @type {import("./api.js").Problem | null} */ (null));
  const links = BAR.filter(([path, , permission]) => may(permission) && match(ROUTES, path));
  const { path } = here.value;
  const below = `${path.replace(/^\/add\//, "/")}/`;
  return html`
    <header class="top">
      <div class="bar">
        <a class="brand" href="/ui/"><svg width="22" height="22" viewBox="0 0 24 24" aria-hidden="true" class="key"><circle cx="7" cy="12" r="4.5" /><path d="M11.5 12H22M18 12v4" /></svg>Sidekey</a>
        ${links.length > 0 && html`<nav aria-label="Pages"><ul>
          ${links.map(([to, name]) => html`<li><a href=${`/ui${to}`} aria-current=${path === to ? "page" : below.startsWith(`${to}/`) ? "true" : undefined}>${name}</a></li>`)}
        </ul></nav>`}
        <div class="who">
          ${me.value && html`<span>${personName(me.value)} (${ROLES[me.value.role].name.toLowerCase()})</span>`}
          <${Theme} />
          <button type="button" class="link shortcuts" onClick=${showKeys}>Shortcuts</button>
          ${me.value && html`<button type="button" class="link" onClick=${async () => setProblem(await logOut())}>Log out</button>`}
        </div>
      </div>
      <${Problem} problem=${problem} />
    </header>
  `;
}

const THEMES = ["system", "light", "dark"];
const theme = signal(localStorage.getItem("sidekey-theme") ?? "system");

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

/** The button that switches the theme: that of the system, light, dark. */
function Theme() {
  const change = () => {
    theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
    localStorage.setItem("sidekey-theme", theme.value);
  };
  return html`<button type="button" class="link" onClick=${change}>Theme: ${theme}</button>`;
}

function Notices() {
  return html`
    ${notice.value && html`<p class="banner" role="status">${notice.value}
      ${" "}<button type="button" class="link" onClick=${() => (notice.value = "")}>Close</button></p>`}
    ${store.value === "unavailable" && html`<div class="banner" role="status">
      <p>The database cannot be reached. You can read. Changes and sending wait until it is back.
        ${" "}<button type="button" class="link" onClick=${loadSession}>Try again</button></p>
    </div>`}
    ${store.value === "absent" && html`<div class="banner">
      <p>This Sidekey has no store. You can look, but not change or send.</p>
      <${Details} summary="Why?">
        <p>Integrations and presets come from the config files alone. Add <code>store</code> to the config to change them here.</p>
      <//>
    </div>`}
  `;
}

/** The page of the URL, if this person may see it. */
function CurrentPage() {
  const { path, query, params } = here.value;
  const current = view.value;
  const isHome = path === "/";
  const needsLogIn = me.value === null && (isHome || (typeof current === "object" && current.may !== undefined));
  useEffect(() => {
    if (needsLogIn) go(`/login?next=${encodeURIComponent(path + location.search)}`, { replace: true });
    else if (isHome) go(may("viewer") ? "/integrations" : "/send", { replace: true });
  }, [needsLogIn, path]);
  if (current === "loading" || needsLogIn || isHome) return html`<p class="loading">Loading…</p>`;
  if (current === "updated") {
    return html`<${Page} key=${path} title="Sidekey was updated">
      <p>This page belongs to another version than the one you have open.</p>
      <div class="actions"><button type="button" class="button primary" onClick=${() => location.reload()}>Reload</button></div>
    <//>`;
  }
  if (current === "missing") return html`<${Page} key=${path} title="This page does not exist"><p>Go to <a href="/ui/">the first page</a>.</p><//>`;
  if (current.may !== undefined && !may(current.may)) {
    return html`<${Page} key=${path} title="You may not see this page"><p>Ask an admin, or go to <a href="/ui/">the first page</a>.</p><//>`;
  }
  return html`<${current.Page} key=${path} params=${params} query=${query} />`;
}

/** Load the session again, to see that the store is back or that somebody else has logged in. */
function poll() {
  if (me.value !== null && document.visibilityState === "visible") loadSession();
}

if (wasReloadedForOtherPerson()) notice.value = "Somebody else has logged in, so what was typed here is gone.";
// Both at the same time, for slow connections.
const [problem] = await Promise.all([loadSession(), start(ROUTES)]);
if (problem !== null) notice.value = logInProblem(problem);
const root = /** @type {HTMLElement} */ (document.getElementById("root"));
root.replaceChildren();
render(html`<${App} />`, root);
document.addEventListener("keydown", onKey);
setInterval(poll, POLL);
document.addEventListener("visibilitychange", poll);
