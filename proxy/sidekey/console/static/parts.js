// Components of pages.
import { html, signal, useEffect, useRef, useState } from "./vendor/preact.js";
import { here, hrefWith, useTitle } from "./router.js";
import { clock, utc } from "./time.js";
import { STATES, sentence } from "./words.js";

/** @param {{ title: string, heading?: any, actions?: any, crumbs?: any, children?: any }} props
 * A page: its heading, which gets the focus after a navigation, and the buttons at the right. */
export function Page({ title, heading, actions, crumbs, children }) {
  useTitle(title);
  return html`
    ${crumbs && html`<p class="crumbs">${crumbs}</p>`}
    <div class="head"><h1 tabindex="-1">${heading ?? title}</h1>${actions && html`<div class="buttons">${actions}</div>`}</div>
    ${children}
  `;
}

/** @param {{ problem: import("./api.js").Problem | null | undefined, fieldPointers?: string[] }} props
 * A problem, without the errors that fields show themselves: those at and below `fieldPointers`. */
export function Problem({ problem, fieldPointers = [] }) {
  if (!problem) return null;
  const isAtField = (/** @type {string} */ pointer) => fieldPointers.some((parent) => pointer === parent || pointer.startsWith(`${parent}/`));
  const errors = problem.errors.filter((error) => !isAtField(error.pointer));
  return html`
    <div class="banner bad" role="alert">
      <p><strong>${problem.title}.</strong> ${sentence(problem.detail)}</p>
      ${errors.length > 0 && html`<ul>
        ${errors.map(({ pointer, detail, line }) => html`<li>${line && `Line ${line}: `}${pointer && html`<code>${pointer}</code> `}${detail}</li>`)}
      </ul>`}
    </div>
  `;
}

/** @param {{ children?: any }} props The text of an empty list: what to do first. */
export function Empty({ children }) {
  return html`<div class="card empty">${children}</div>`;
}

/** @param {{ name: string }} props The initials of a name, hidden from screen readers. */
export function Tile({ name }) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = (words.length > 1 ? words.slice(0, 2) : [...(words[0] ?? "?")].slice(0, 2)).map((word) => [...word][0] ?? "");
  return html`<span class="tile" aria-hidden="true">${letters.join("").toUpperCase()}</span>`;
}

const SHAPES = {
  good: "M2 6.5 5 9.5 10.5 3",
  warning: "M6 1.5 11 10.5H1ZM6 5v2.5",
  bad: "M2.5 2.5l7 7m0-7l-7 7",
  quiet: "M2.5 6h7",
};

/** @param {{ status: string, text?: string }} props A status as an icon and a word: colour alone is not accessible. */
export function State({ status, text }) {
  const [mood, word] = STATES[status] ?? ["quiet", status];
  return html`
    <span class=${`state ${mood}`}>
      <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true"><path d=${SHAPES[mood]} /></svg>
      <span>${text ?? word}</span>
    </span>
  `;
}

/** @param {{ text: string, label?: string, source?: { current: HTMLElement | null } }} props
 * A button that copies a text. With `source`, the element of the text, it is prominent, and selects the text if it cannot copy. */
export function Copy({ text, label = "Copy", source }) {
  const [done, setDone] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
      announce("Copied.");
    } catch {
      setDone(source ? "Copy the selected text" : "Select the text and copy it");
      if (source?.current) getSelection()?.selectAllChildren(source.current);
    }
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setDone(""), 3000);
  };
  return html`<button type="button" class=${source ? "button primary" : "link"} onClick=${copy}>${done || label}</button>`;
}

/** @param {{ items: [key: string, label: string][], value: string, name?: string, label?: string }} props
 * Tabs, or another choice of a few views, in the URL: the first is without a query. */
export function Tabs({ items, value, name = "tab", label = "Views" }) {
  return html`
    <nav class="tabs" aria-label=${label}>
      ${items.map(
        ([key, text], index) =>
          html`<a href=${hrefWith({ [name]: index === 0 ? null : key })} aria-current=${key === value ? "page" : undefined}>${text}</a>`,
      )}
    </nav>
  `;
}

/** @param {{ at: import("./time.js").Moment, text?: string }} props A time: local, UTC on hover. */
export function Time({ at, text }) {
  return html`<time datetime=${new Date(at).toISOString()} title=${utc(at)}>${text ?? clock(at)}</time>`;
}

/** @param {{ next: string | number | null | undefined, name?: string, text?: string }} props The link to the next page of a list. */
export function More({ next, name = "after", text = "Next page" }) {
  const first = here.value.query.has(name) && html`<a href=${hrefWith({ [name]: null })}>First page</a>`;
  if (!next && !first) return null;
  return html`<p class="more">${first} ${next && html`<a href=${hrefWith({ [name]: String(next) })}>${text}</a>`}</p>`;
}

/** @param {{ text?: string }} props The text while something loads. */
export function Busy({ text = "Loading…" }) {
  return html`<p class="soft">${text}</p>`;
}

/** @param {{ problem: import("./api.js").Problem | null, body?: any, again?: () => void }} props The state of a call: its problem, or that it loads. */
export function Loading({ problem, body, again }) {
  if (problem) return html`<${Problem} problem=${problem} />${!body && again && html`<button type="button" class="button" onClick=${again}>Try again</button>`}`;
  return body ? null : html`<${Busy} />`;
}

/** @param {{ summary: any, open?: boolean, children?: any }} props */
export function Details({ summary, open = false, children }) {
  return html`<details class="group" open=${open}><summary>${summary}</summary>${children}</details>`;
}

/** @param {string} name @param {string} text Let the browser save a file, whose type is that of its name. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: name.endsWith(".csv") ? "text/csv" : "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The download has begun when the click returns.
  URL.revokeObjectURL(url);
}

const spoken = signal("");

/** @param {string} text Have screen readers announce a result. */
export function announce(text) {
  const isRepeated = spoken.value === text;
  clearNotice();
  // A screen reader announces a repeated text only if it differs.
  spoken.value = isRepeated ? `${text}\u00a0` : text;
  hideTimer = window.setTimeout(clearNotice, 6000);
}

function clearNotice() {
  clearTimeout(hideTimer);
  isVisible.value = false;
  spoken.value = "";
}

const isVisible = signal(false);
let hideTimer = 0;

/** @param {string} text Confirm an action: announce it, and show it for some seconds. */
export function showNotice(text) {
  announce(text);
  isVisible.value = true;
}

/** The live region of `announce` and `showNotice`. Its text does not follow the person to another page. */
export function Spoken() {
  useEffect(() => {
    const onClick = (/** @type {any} */ event) => event.target.closest("a") && clearNotice();
    document.addEventListener("click", onClick);
    return () => document.removeEventListener("click", onClick);
  }, []);
  return html`<div class=${isVisible.value ? "done" : "hidden"} role="status" aria-live="polite">${spoken.value}</div>`;
}
