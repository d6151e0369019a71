"use strict";

// Pages work without this: it adds keys and buttons that copy.

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

// What counts only with another field's value is shown only then.
for (const part of document.querySelectorAll("[data-when]")) {
  const other = document.getElementById(part.dataset.when);
  if (other === null) continue;
  const values = part.dataset.values.split(" ");
  const fallback = other.querySelector('option[value=""]')?.textContent.replace("Default: ", "");
  const look = () => { part.hidden = !values.includes(other.value || fallback); };
  other.addEventListener("change", look);
  look();
}

// A stored secret has no input until it is to be replaced.
for (const kept of document.querySelectorAll("[data-kept]")) {
  const input = kept.nextElementSibling;
  const look = () => {
    const replaced = kept.querySelector("input:checked").value === "replace";
    input.hidden = !replaced;
    if (!replaced) input.value = "";
  };
  kept.addEventListener("change", () => { look(); if (!input.hidden) input.focus(); });
  look();
}

// A value that is secret is not shown while it is typed.
for (const input of document.querySelectorAll("[data-secret-of]")) {
  const kind = document.getElementById(input.dataset.secretOf);
  const look = () => {
    const secret = kind?.value === "secret";
    input.type = secret ? "password" : "text";
    input.autocomplete = secret ? "new-password" : "off";
  };
  kind?.addEventListener("change", look);
  look();
}

for (const upload of document.querySelectorAll(".upload")) {
  upload.hidden = false;
  upload.addEventListener("change", async () => {
    const [file] = upload.files;
    if (file === undefined) return;
    const into = document.getElementById(upload.dataset.into);
    const text = await file.text();
    upload.value = "";
    const kept = into.parentElement.querySelector("[data-kept] input[value=replace]");
    if (kept !== null) kept.click();
    into.value = text;
  });
}

const find = document.querySelector("[data-find]");
find?.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/);
  for (const each of document.querySelectorAll(`#${find.dataset.find} [data-words]`)) {
    const text = each.dataset.words.toLowerCase();
    each.hidden = !words.every((word) => text.includes(word));
  }
});

// A form is sent here, so that what was typed stays where it is refused: the server never sends a secret back.
const place = (form, pointer) => {
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const found = form.querySelector(`[data-pointer="${CSS.escape(at)}"]`);
    if (found !== null) return found;
  }
  return null;
};

const show = (form, refused, from) => {
  for (const wrong of form.querySelectorAll(".wrong")) wrong.classList.remove("wrong");
  for (const text of form.querySelectorAll(".error")) { text.hidden = true; text.textContent = ""; }
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  let first = null;
  for (const [pointer, detail] of refused.errors) {
    const field = place(form, pointer);
    if (field === null) continue;
    const text = document.getElementById(`${field.dataset.pointer}!error`);
    text.textContent = text.textContent ? `${text.textContent}; ${detail}` : detail;
    text.hidden = false;
    field.classList.add("wrong");
    field.closest("details")?.setAttribute("open", "");
    const replace = field.querySelector("[data-kept] input[value=replace]");
    if (refused.code === "reenter" && replace !== null) replace.click();
    const input = field.querySelector("input:not([type=hidden], [type=radio], [type=file]), select, textarea");
    input?.setAttribute("aria-invalid", "true");
    first ??= input;
  }
  const version = form.elements.namedItem("version");
  if (version !== null && refused.version) version.value = refused.version;
  const message = form.querySelector("[data-message]");
  message.textContent = `${refused.detail}. ${refused.rest.map(([pointer, detail]) => `${pointer} ${detail}.`).join(" ")}`;
  if (refused.code === "changed") {
    const theirs = document.createElement("a");
    theirs.href = form.action;
    theirs.textContent = "Load theirs, without what is typed here";
    message.append(" ", theirs);
  }
  message.hidden = false;
  if (first === null) message.scrollIntoView({ block: "nearest" });
  (first ?? from).focus();
};

// Who has logged in again in another window has another session, of which the form's token is not. Only the same
// operator: whoever can plant a cookie here must not get what was typed for somebody else.
const who = (page) => page.querySelector(".who bdi")?.textContent;
const renewed = async () => {
  const page = new DOMParser().parseFromString(await (await fetch(window.location.href)).text(), "text/html");
  if (who(page) !== who(document)) return null;
  return page.querySelector("form[data-form] [name=form_token]")?.value ?? null;
};

for (const form of document.querySelectorAll("form[data-form]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    const send = () => fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    // A button loses the focus while it cannot be used.
    const from = document.activeElement;
    const say = (said) => {
      for (const button of buttons) button.disabled = false;
      show(form, said, from);
    };
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      let response = await send();
      if (response.status === 403) {
        const token = await renewed();
        if (token !== null) {
          form.elements.namedItem("form_token").value = token;
          body.set("form_token", token);
          response = await send();
        }
      }
      if (response.redirected) {
        say({ detail: "You are logged out; what was typed is still here. Log in in another window, then send it again", code: "", errors: [], rest: [] });
        return;
      }
      if (response.headers.get("Content-Type") !== "application/json") {
        say({ detail: `The server answered ${response.status}; what was typed is still here`, code: "", errors: [], rest: [] });
        return;
      }
      const said = await response.json();
      if (said.location !== undefined) window.location.assign(said.location);
      else say(said);
    } catch {
      say({ detail: "The server cannot be reached; what was typed is still here", code: "", errors: [], rest: [] });
    }
  });
}
