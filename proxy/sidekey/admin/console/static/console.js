"use strict";

// Pages work without this: it adds keys and buttons that copy.

const typing = (target) => target.closest("input, select, textarea, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
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

const show = (form, refused) => {
  for (const wrong of form.querySelectorAll(".wrong")) wrong.classList.remove("wrong");
  for (const text of form.querySelectorAll(".error")) { text.hidden = true; text.textContent = ""; }
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  let first = null;
  for (const [pointer, detail] of refused.errors) {
    const field = place(form, pointer);
    if (field === null) continue;
    const text = field.querySelector(".error");
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
  message.hidden = false;
  message.tabIndex = -1;
  (first ?? message).focus();
};

// Who has logged in again in another window has another session, of which the form's token is not. Only the same
// operator: whoever can plant a cookie here must not get what was typed for somebody else.
const who = (page) => page.querySelector(".who bdi")?.textContent;
const renewed = async () => {
  const page = new DOMParser().parseFromString(await (await fetch(window.location.href)).text(), "text/html");
  if (who(page) !== who(document)) return null;
  return page.querySelector("main [name=form_token]")?.value ?? null;
};

for (const form of document.querySelectorAll("form[data-form], form[data-preset]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    const send = () => fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
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
        show(form, { detail: "You are logged out; what was typed is still here. Log in in another window, then send it again", code: "", errors: [], rest: [] });
        return;
      }
      if (response.headers.get("Content-Type") !== "application/json") {
        show(form, { detail: `The server answered ${response.status}; what was typed is still here`, code: "", errors: [], rest: [] });
        return;
      }
      const said = await response.json();
      if (said.location !== undefined) window.location.assign(said.location);
      else show(form, said);
    } catch {
      show(form, { detail: "The server cannot be reached; what was typed is still here", code: "", errors: [], rest: [] });
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
}

// Presets. Rows are added and removed, and are found by what is typed into them; each parameter has a sample beside.
const sampleOf = (row) => document.querySelector(`[data-sample-of="${CSS.escape(row.dataset.row)}"]`);

const look = (row, where) => {
  const value = (part) => row.querySelector(`[name$="#${part}"]`)?.value ?? "";
  const name = value("name").trim();
  row.dataset.pointer = name ? `${where}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}` : "";
  for (const part of row.querySelectorAll("[data-types]")) {
    const other = part.classList.contains("default") && value("need") !== "default";
    part.hidden = other || !part.dataset.types.split(" ").includes(value("type"));
  }
  const sample = sampleOf(row);
  if (sample === null) return;
  sample.hidden = !name;
  sample.querySelector("bdi").textContent = name;
  const examples = JSON.parse(sample.parentElement.dataset.samples);
  const one_of = value("one_of").split("\n").find((line) => line.trim());
  const example = one_of ?? examples[value("type")] ?? name;
  sample.querySelector("input").placeholder = value("need") === "default" ? value("default") : example;
};

const numbered = (part, from, to) => {
  for (const each of [part, ...part.querySelectorAll("*")]) {
    for (const name of ["id", "name", "for", "data-row", "data-sample-of"]) {
      const value = each.getAttribute(name);
      if (value !== null) each.setAttribute(name, `${value}#`.replace(`${from}#`, `${to}#`).slice(0, -1));
    }
  }
  return part;
};

for (const rows of document.querySelectorAll("[data-rows]")) {
  const where = rows.dataset.rows;
  const add = rows.querySelector("[data-add]");
  const all = [...rows.querySelectorAll("[data-row]")];
  const last = all.at(-1);
  const model = last.cloneNode(true);
  const sample = sampleOf(last)?.cloneNode(true);
  const samples = sampleOf(last)?.parentElement;
  let next = all.length;
  const ready = (row) => {
    const remove = row.querySelector("[data-remove]");
    remove.hidden = false;
    remove.addEventListener("click", () => {
      const near = row.nextElementSibling?.querySelector("input") ?? add;
      sampleOf(row)?.remove();
      row.remove();
      near.focus();
      add.dispatchEvent(new Event("change", { bubbles: true }));
    });
    row.addEventListener("input", () => { look(row, where); });
    look(row, where);
  };
  for (const row of all) {
    // Empty ones are for who has no script.
    if ([...row.querySelectorAll("input, textarea")].some((each) => each.value)) ready(row);
    else { sampleOf(row)?.remove(); row.remove(); }
  }
  add.hidden = false;
  add.addEventListener("click", () => {
    const row = numbered(model.cloneNode(true), last.dataset.row, `${where}#${next}`);
    if (sample) samples.insertBefore(numbered(sample.cloneNode(true), last.dataset.row, `${where}#${next}`), samples.lastElementChild);
    next += 1;
    add.before(row);
    ready(row);
    row.querySelector("input").focus();
  });
}

// A body has fields where it is a form.
const type = document.getElementById("/content_type");
const shape = () => {
  const form = type.value.split(";")[0].trim().toLowerCase() === "application/x-www-form-urlencoded";
  for (const part of document.querySelectorAll("[data-body]")) part.hidden = (part.dataset.body === "form") !== form;
};
type?.addEventListener("input", shape);
if (type !== null) shape();

for (const input of document.querySelectorAll("[data-finds]")) {
  let timer = 0;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const response = await fetch(`${input.dataset.finds}?q=${encodeURIComponent(input.value)}`);
      if (!response.ok || response.redirected) return;
      const found = new DOMParser().parseFromString(`<datalist>${await response.text()}</datalist>`, "text/html");
      input.list.replaceChildren(...found.querySelectorAll("option"));
    }, 200);
  });
}

// What a preset would send is shown while it is typed. The server makes it, as it does where there is no script.
const tried = async (form, button) => {
  const body = new URLSearchParams(new FormData(form));
  const send = () => fetch(button.formAction, { method: "POST", body, headers: { Accept: "application/json" } });
  let response = await send();
  if (response.status === 403) {
    const token = await renewed();
    if (token !== null) {
      form.elements.namedItem("form_token").value = token;
      body.set("form_token", token);
      response = await send();
    }
  }
  if (!response.ok || response.redirected) return null;
  return new DOMParser().parseFromString(await response.text(), "text/html").querySelector("[data-said]");
};

for (const form of document.querySelectorAll("form[data-preset]")) {
  const buttons = [...form.elements].filter((each) => each.dataset.trial !== undefined);
  const preview = buttons.find((each) => each.dataset.trial === "preview");
  const said = document.getElementById("preview-said");
  let timer = 0;
  let latest = 0;
  const show = async (button) => {
    const into = document.getElementById(button.dataset.trial);
    const mine = ++latest;
    let found = null;
    try {
      found = await tried(form, button);
    } catch {
      // It is said below.
    }
    if (button === preview && mine !== latest) return;
    const text = document.createElement("p");
    text.textContent = "The server has not answered; what was typed is still here.";
    into.replaceChildren(...(found === null ? [text] : found.childNodes));
    if (button === preview) said.textContent = found === null ? text.textContent : found.dataset.said;
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { show(preview); }, 400);
  };
  for (const button of buttons) {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      show(button);
    });
  }
  // Samples stand outside the form that they belong to.
  for (const kind of ["input", "change"]) {
    document.addEventListener(kind, (event) => { if (preview !== undefined && event.target.form === form) later(); });
  }
}
