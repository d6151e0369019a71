"use strict";

const typing = (target) => target.closest("input, select, textarea, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  // Behind an open dialog nothing can be used.
  if (document.querySelector("dialog[open]") !== null) return;
  if (event.key === "?") {
    event.preventDefault();
    document.getElementById("keys")?.showModal();
    return;
  }
  const found = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (found === null) return;
  event.preventDefault();
  if (found.matches("a, button")) found.click();
  else found.focus();
});

for (const block of document.querySelectorAll(".code")) {
  const text = block.querySelector("code").textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${block.querySelector("pre").getAttribute("aria-label")}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.append(button);
}

const find = document.querySelector("[data-find]");
find?.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/);
  const group = document.getElementById(find.dataset.find);
  let found = 0;
  for (const each of group.querySelectorAll("[data-words]")) {
    const text = each.dataset.words.toLowerCase();
    each.hidden = !words.every((word) => text.includes(word));
    found += each.hidden ? 0 : 1;
  }
  for (const part of group.querySelectorAll("section")) part.hidden = part.querySelector("[data-words]:not([hidden])") === null;
  const some = found === 1 ? "1 found." : `${found} found.`;
  document.querySelector("[data-found]").textContent = found ? some : "Nothing is like that: take the kind that its documentation names.";
});

// The API for this session. Whoever can plant a cookie must not get what was typed for somebody else, so a new token is
// taken only from a page of the same operator.
const operator = (page) => page.querySelector(".who bdi")?.textContent;

const loadPage = async () => {
  try {
    const page = new DOMParser().parseFromString(await (await fetch(window.location.href)).text(), "text/html");
    return operator(page) === operator(document) ? page.querySelector("[data-token]") : null;
  } catch {
    return null;
  }
};

const call = async (form, method, path, type, body, headers = {}) => {
  const send = () => fetch(`/session/api/v1${path}`, {
    method,
    body,
    headers: { ...headers, ...(body === undefined ? {} : { "Content-Type": type }), "Sidekey-Form-Token": form.dataset.token },
  });
  try {
    let response = await send();
    if (response.status === 401 || response.status === 403) {
      const renewed = await loadPage();
      if (renewed === null) return { ok: false, value: { detail: "you are logged out: log in in another window, then try again" } };
      form.dataset.token = renewed.dataset.token;
      response = await send();
    }
    return { ok: response.ok, value: await response.json() };
  } catch {
    return { ok: false, value: { detail: "the server cannot be reached" } };
  }
};

const element = (name, text, className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
};

const show = (form, ...parts) => {
  const outcome = form.querySelector("[data-outcome]");
  outcome.replaceChildren(...parts);
  outcome.focus({ preventScroll: true });
  outcome.scrollIntoView({ block: "nearest" });
};

const banner = (mood, text) => element("p", text, `banner ${mood}`);

const shownRequest = (value) => {
  const { request, credential, reason } = value;
  if (request === null) return [banner("bad", `Sidekey would not send it: ${reason}.`)];
  const headers = request.headers.map(([name, content]) => `${name}: ${content}`);
  const places = Object.entries(credential ?? {}).map(([place, names]) => `${place} ${names.join(", ")}`);
  const text = [`${request.method} ${request.url}`, ...headers, "", request.body].join("\n").trimEnd();
  const goes = places.length ? `The credential of ${value.integration} goes into: ${places.join("; ")}.` : "No credential goes with it.";
  return [element("pre", text), element("p", goes, "help")];
};

const tested = (result) => banner(
  result.ok ? "good" : "bad",
  `${result.status ?? result.code} in ${result.milliseconds} ms: ${result.reason}${result.note ? `; ${result.note}` : ""}.`,
);

// The editor of a document.
const setUp = (form) => {
  const { editor: kind, id } = form.dataset;
  const area = form.querySelector("textarea");
  const numbers = form.querySelector(".numbers");
  const isNew = id === "";

  const number = () => {
    const count = area.value.split("\n").length;
    while (numbers.childElementCount > count) numbers.lastChild.remove();
    while (numbers.childElementCount < count) numbers.append(element("span", String(numbers.childElementCount + 1)));
    area.rows = count + 1;
  };

  const goTo = (line, column) => {
    const before = area.value.split("\n").slice(0, line - 1).join("\n").length;
    const at = before + (line > 1 ? 1 : 0) + column - 1;
    area.focus();
    area.setSelectionRange(at, at);
    numbers.children[line - 1]?.scrollIntoView({ block: "center" });
  };

  const item = ({ pointer, detail, line, column }, mark) => {
    const found = element("li", "");
    if (line !== undefined) {
      if (mark) numbers.children[line - 1]?.classList.add("wrong");
      const button = element("button", `Line ${line}`, "link");
      button.type = "button";
      button.addEventListener("click", () => goTo(line, column));
      found.append(button, " ");
    }
    found.append(pointer ? `${pointer}: ${detail}` : detail);
    return found;
  };

  const listOf = (items, mark = true) => {
    const list = element("ul", "", "plain");
    list.append(...items.map((each) => item(each, mark)));
    return list;
  };

  const refuse = (problem) => show(form, banner("bad", `Not saved: ${problem.detail}.`), listOf(problem.errors ?? []));

  const saved = async (name, then) => {
    let done = "saved";
    if (then === "test") done = (await call(form, "POST", `/integrations/${name}/test`)).ok ? "tried" : "untested";
    window.location.assign(`/${kind}s/${name}?done=${done}`);
  };

  const save = async (then) => {
    const { ok, value } = isNew
      ? await call(form, "POST", `/${kind}s`, "application/yaml", area.value)
      : await call(form, "PUT", `/${kind}s/${id}`, "application/yaml", area.value, { "If-Match": `"${form.dataset.version}"` });
    if (ok) return saved(value.id, then);
    if (value.code !== "changed") return refuse(value);
    const theirs = await loadPage();
    if (theirs === null) return refuse(value);
    form.dataset.version = theirs.dataset.version;
    const link = element("a", "show theirs, and lose yours");
    link.href = window.location.pathname;
    const text = `Not saved: ${theirs.dataset.by} has changed it after you loaded this page. Your text is still here. Save again to replace theirs, or `;
    const message = banner("bad", text);
    message.append(link, ".");
    return show(form, message);
  };

  const check = async () => {
    const { ok, value } = await call(form, "POST", `/drafts/${kind}/preview`, "application/yaml", area.value);
    if (!ok) return show(form, banner("bad", `Cannot be saved: ${value.detail}.`), listOf(value.errors ?? []));
    if (kind === "preset") return show(form, banner("good", "Can be saved. The request for example values:"), ...shownRequest(value));
    const errors = [...value.errors, ...value.reenter];
    if (isNew && value.version !== null) errors.push({ pointer: "/id", detail: "another integration has this ID: choose one that is free" });
    const parts = errors.length ? [banner("bad", "Cannot be saved:"), listOf(errors)] : [banner("good", "Can be saved.")];
    if (value.warnings.length) parts.push(banner("", "Warnings:"), listOf(value.warnings, false));
    const { destination } = value;
    if (destination !== null) {
      const places = [...destination.prefixes, ...destination.domains].join(", ");
      const learned = destination.learns ? "where the token response says" : "";
      parts.push(element("p", `The credential goes to ${[learned, places].filter(Boolean).join(", within ")}, and nowhere else.`));
    }
    return show(form, ...parts);
  };

  area.addEventListener("input", number);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    for (const each of numbers.children) each.classList.remove("wrong");
    const buttons = form.querySelectorAll(".actions button");
    for (const button of buttons) button.disabled = true;
    await (event.submitter?.value === "check" ? check() : save(event.submitter?.value));
    for (const button of buttons) button.disabled = false;
  });
  number();
};

for (const form of document.querySelectorAll("[data-editor]")) setUp(form);

for (const form of document.querySelectorAll("[data-trial]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { trial, id } = form.dataset;
    const action = event.submitter?.value ?? "preview";
    const text = form.querySelector("textarea").value;
    const body = `{"${trial}": ${trial === "payload" ? JSON.stringify(text) : text || "{}"}}`;
    const { ok, value } = await call(form, "POST", `/presets/${id}/${action}`, "application/json", body);
    if (ok) show(form, ...(action === "test" ? [tested(value)] : shownRequest(value)));
    else show(form, banner("bad", [`${value.detail}.`, ...(value.errors ?? []).map((each) => `${each.pointer}: ${each.detail}.`)].join(" ")));
  });
}
