// Every page and filter has a URL below /ui. Reload and Back work, and focus and title change on navigation.
import { batch, signal, useEffect, useLayoutEffect, useRef } from "./vendor/preact.js";
import { ask } from "./dialog.js";

/**
 * @typedef {{ path: string, page: () => Promise<{ default: any }>, may?: string }} Route
 * @typedef {{ path: string, query: URLSearchParams, params: Record<string, string> }} PageLocation
 * @typedef {{ Page: any, may: string | undefined } | "loading" | "missing" | "updated"} View
 */

const PREFIX = "/ui";

/** @type {import("./vendor/preact.js").Signal<PageLocation>} The location of the current page, below /ui. */
export const here = signal({ path: "", query: new URLSearchParams(), params: {} });
/** @type {import("./vendor/preact.js").Signal<View>} "missing": no route fits. "updated": the page's module is not served any more. */
export const view = signal("loading");

/** @type {Route[]} */
let routes = [];
/** Position in the browser's history, to undo Back if the person stays. */
let position = 0;
let navigation = 0;
/** The path whose heading last got the focus. After a load of the document, the browser keeps its own focus. */
let focusedPath = "";

/** @param {Route[]} table Open the page of the browser's URL, and handle navigation from now on. */
export function start(table) {
  routes = table;
  position = history.state?.position ?? 0;
  history.replaceState({ position }, "");
  focusedPath = pathOf(location);
  addEventListener("popstate", onPopState);
  addEventListener("beforeunload", (event) => {
    if (isUnsaved()) event.preventDefault();
  });
  document.addEventListener("click", onClick);
  return open();
}

/** @param {Route[]} table @param {string} path @returns {{ route: Route, params: Record<string, string> } | null} The first route that fits. */
export function match(table, path) {
  for (const route of table) {
    const matched = new RegExp(`^${route.path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`).exec(path);
    if (matched === null) continue;
    try {
      const params = Object.entries(matched.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]);
      return { route, params: Object.fromEntries(params) };
    } catch {
      // An invalid escape, such as %ff.
      return null;
    }
  }
  return null;
}

/**
 * Open a page. Use `skipQuestion` after saving: the question of `useLeaveQuestion` is not asked.
 * @param {string} path Below /ui, with an optional query.
 * @param {{ replace?: boolean, skipQuestion?: boolean }} [options]
 */
export async function go(path, { replace = false, skipQuestion = false } = {}) {
  const url = new URL(PREFIX + path, location.origin);
  if (!skipQuestion && pathOf(url) !== here.value.path && !(await confirmLeave())) return;
  if (skipQuestion) questions.clear();
  write(url, replace);
  await open();
}

/**
 * Change the query of this page. Null and "" remove a name.
 * @param {Record<string, string | null>} changes @param {{ replace?: boolean }} [options]
 */
export function setQuery(changes, { replace = false } = {}) {
  write(new URL(hrefWith(changes), location.origin), replace);
  here.value = { ...here.value, query: new URLSearchParams(location.search) };
}

/** @param {Record<string, string | null>} changes The URL of this page with a changed query, for a link. */
export function hrefWith(changes) {
  const query = new URLSearchParams(here.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return `${PREFIX}${here.value.path}${text === "" ? "" : `?${text}`}`;
}

/** @param {string} title Set the title of the window and, after a navigation, move the focus to the heading. */
export function useTitle(title) {
  useLayoutEffect(() => {
    document.title = title === "" ? "Sidekey" : `${title} · Sidekey`;
  }, [title]);
  useLayoutEffect(() => {
    const { path } = here.value;
    if (focusedPath === path) return;
    focusedPath = path;
    const main = document.querySelector("main");
    // A page may have chosen a field already.
    if (!main?.contains(document.activeElement)) main?.querySelector("h1")?.focus();
  }, []);
}

/** @type {Map<() => boolean, string>} */
const questions = new Map();

/** @param {() => boolean} unsaved @param {string} [text] Ask before leaving the page while this returns True. A hook. */
export function useLeaveQuestion(unsaved, text = "What you typed here is not saved.") {
  const latest = useRef(unsaved);
  latest.current = unsaved;
  useEffect(() => {
    const question = () => latest.current();
    questions.set(question, text);
    return () => {
      questions.delete(question);
    };
  }, []);
}

/** Ask no question when the person leaves this page. */
export function leaveSilently() {
  questions.clear();
}

function isUnsaved() {
  return [...questions.keys()].some((question) => question());
}

/** @returns {Promise<boolean>} Ask the question of `useLeaveQuestion` if something is unsaved. */
export async function confirmLeave() {
  const unsaved = [...questions].find(([question]) => question());
  return unsaved === undefined || ask({ title: "Leave this page?", text: unsaved[1], yes: "Leave", no: "Stay", danger: true });
}

/** @param {{ pathname: string }} url The path below /ui, without a slash at its end. */
function pathOf({ pathname }) {
  return pathname.slice(PREFIX.length).replace(/\/+$/, "") || "/";
}

/** @param {URL} url @param {boolean} replace */
function write(url, replace) {
  if (replace) return history.replaceState({ position }, "", url);
  position += 1;
  return history.pushState({ position }, "", url);
}

/** Load the page of the browser's URL. The previous page stays until the new one has loaded. */
async function open() {
  navigation += 1;
  const current = navigation;
  const path = pathOf(location);
  const query = new URLSearchParams(location.search);
  if (path === here.value.path && typeof view.value === "object") {
    here.value = { ...here.value, query };
    return;
  }
  const matched = match(routes, path);
  /** @type {View} */
  let next;
  try {
    next = matched === null ? "missing" : { Page: (await matched.route.page()).default, may: matched.route.may };
  } catch {
    next = "updated";
  }
  if (current !== navigation) return;
  batch(() => {
    here.value = { path, query, params: matched?.params ?? {} };
    view.value = next;
  });
  scrollTo(0, 0);
}

/** @param {PopStateEvent} event */
async function onPopState(event) {
  const target = event.state?.position ?? 0;
  const steps = target - position;
  if (pathOf(location) !== here.value.path && isUnsaved()) {
    // The browser has changed the URL already: return to this page's, then ask.
    history.go(-steps);
    if (!(await confirmLeave())) return;
    questions.clear();
    history.go(steps);
    return;
  }
  position = target;
  await open();
}

/** @param {MouseEvent} event Open links below /ui without loading the document. */
function onClick(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = /** @type {Element} */ (event.target).closest("a");
  if (!link?.href || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !/^\/ui(?:\/|$)/.test(url.pathname) || url.hash) return;
  event.preventDefault();
  go(url.pathname.slice(PREFIX.length) + url.search);
}
