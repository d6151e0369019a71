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

// What counts only with another field's value is shown only then, and while that field is shown.
const dependent = new Map([...document.querySelectorAll("[data-when]")].map((part) => {
  const conditions = JSON.parse(part.dataset.when).map(([name, values]) => [document.getElementById(name), values]);
  return [part, conditions];
}));
const valueOf = (other) => other.value || other.querySelector('option[value=""]')?.textContent.replace("Default: ", "");
const counts = (part) => !dependent.has(part) || dependent.get(part).some(([other, values]) => (
  other !== null && values.includes(valueOf(other)) && counts(other.closest("[data-when]"))
));
const showWhatCounts = () => { for (const part of dependent.keys()) part.hidden = !counts(part); };
for (const conditions of dependent.values()) {
  for (const [other] of conditions) other?.addEventListener("change", showWhatCounts);
}
showWhatCounts();

// What was typed for a stored secret that is kept after all must not be sent.
for (const kept of document.querySelectorAll("[data-kept]")) {
  const input = kept.querySelector("[type=password], textarea");
  kept.addEventListener("change", (event) => {
    if (event.target.type !== "radio") return;
    delete kept.dataset.opened;
    if (event.target.value !== "replace") input.value = "";
    else if (event.isTrusted) input.focus();
  });
}

// A value that is secret is not shown while it is typed.
const hideSecret = (input) => {
  const kind = document.getElementById(input.dataset.secretOf);
  const look = () => {
    const secret = kind?.value === "secret";
    input.type = secret ? "password" : "text";
    input.autocomplete = secret ? "new-password" : "off";
  };
  kind?.addEventListener("change", look);
  look();
};
for (const input of document.querySelectorAll("[data-secret-of]")) hideSecret(input);

// A file that is PEM is read here; any other is sent as it is, for the server to say what it is instead.
for (const upload of document.querySelectorAll(".upload")) {
  const into = document.getElementById(upload.dataset.into);
  const field = into.closest(".field");
  into.addEventListener("input", () => { upload.value = ""; });
  upload.addEventListener("change", async () => {
    const [file] = upload.files;
    if (file === undefined) return;
    field.querySelector("[data-kept] input[value=replace]")?.click();
    const source = field.querySelector("select");
    if (source !== null && source.value !== source.dataset.pasted) source.value = source.dataset.pasted;
    const text = file.size > 262144 ? "" : await file.text();
    if (text.includes("-----BEGIN ")) {
      into.value = text;
      upload.value = "";
    }
    field.dispatchEvent(new Event("read", { bubbles: true }));
  });
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

// A form is sent here, so that what was typed stays where it is refused: the server never sends a secret back.
const place = (form, pointer) => {
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const found = form.querySelector(`[data-pointer="${CSS.escape(at)}"]`);
    if (found !== null) return found;
  }
  return null;
};

// Of a field that has rows, the one that a pointer names.
const rowOf = (field, pointer) => {
  const name = pointer.slice(field.dataset.pointer.length + 1).split("/")[0].replaceAll("~1", "/").replaceAll("~0", "~");
  const names = [...field.querySelectorAll(".pair input[name$='#name']")];
  return names.find((each) => name && each.value.trim() === name)?.closest(".pair") ?? null;
};

const show = (form, refused, from) => {
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
    for (let part = field.closest("details"); part !== null; part = part.parentElement.closest("details")) part.open = true;
    const replace = (rowOf(field, pointer) ?? field).querySelector("[data-kept] input[value=replace]");
    if (refused.code === "reenter" && replace !== null) replace.checked = true;
    const inputs = [...field.querySelectorAll("input:not([type=hidden], [type=radio], [type=file]), select, textarea")];
    const input = inputs.find((each) => each.checkVisibility({ visibilityProperty: true })) ?? inputs[0];
    input?.setAttribute("aria-invalid", "true");
    first ??= input;
  }
  const version = form.elements.namedItem("version");
  if (version !== null && refused.version) version.value = refused.version;
  const message = form.querySelector("[data-message]");
  message.textContent = `${refused.detail}. ${refused.rest.map(([pointer, detail]) => `${pointer} ${detail}.`).join(" ")}`;
  if (refused.code === "changed") {
    const link = document.createElement("a");
    link.href = form.action;
    link.textContent = "Show theirs: what you typed is lost then";
    message.append(" ", link);
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
  return page.querySelector("main [name=form_token]")?.value ?? null;
};

for (const form of document.querySelectorAll("form[data-form], form[data-preset]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form, event.submitter);
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

// While a form is edited, the server says what saving it would do: which secrets must be entered again, and what a
// certificate is. What it says has its room already, and no focus moves.
const tell = (form, said) => {
  for (const note of form.querySelectorAll("[data-note]")) {
    const [mood, text] = said.notes[note.id.slice(0, -"!note".length)] ?? ["", note.dataset.note];
    note.className = `note ${mood}`;
    if (note.textContent !== text) note.textContent = text;
  }
  const wanted = new Set();
  for (const pointer of said.again) {
    const field = place(form, pointer);
    const part = field === null ? null : rowOf(field, pointer) ?? field;
    const mark = part?.querySelector("[data-again]") ?? field?.querySelector("[data-again]");
    if (mark) wanted.add(mark);
    const kept = part?.querySelector("[data-kept]");
    const keep = kept?.querySelector("input[value=keep]");
    // A text of one line has its room in either way; of a larger one somebody else decides when it opens.
    if (keep?.checked && kept.querySelector("textarea") === null) {
      kept.querySelector("input[value=replace]").checked = true;
      kept.dataset.opened = "";
    }
    if (kept) wanted.add(kept);
  }
  for (const mark of form.querySelectorAll("[data-again]")) mark.hidden = !wanted.has(mark);
  for (const kept of form.querySelectorAll("[data-opened]")) {
    if (wanted.has(kept) || kept.querySelector("[type=password]").value) continue;
    delete kept.dataset.opened;
    kept.querySelector("input[value=keep]").checked = true;
  }
  for (const back of form.querySelectorAll("[data-back]")) {
    const own = back.closest("[data-pointer]").dataset.pointer;
    back.hidden = !said.moving.some((each) => place(form, each)?.dataset.pointer === own);
  }
  const summary = form.querySelector("[data-preview]");
  summary.className = `preview ${said.mood}`;
  const text = said.summary || summary.dataset.preview;
  if (summary.textContent !== text) summary.textContent = text;
};

const check = async (form) => {
  const body = new FormData(form);
  body.set("then", "check");
  for (const [name, value] of [...body]) {
    // What is not typed yet is kept until it is: else a missing secret hides why it is asked for.
    if (name.endsWith("#do") && value === "replace" && !body.get(name.slice(0, -3))) body.set(name, "keep");
  }
  try {
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    const is_said = response.ok && !response.redirected && response.headers.get("Content-Type") === "application/json";
    return is_said ? await response.json() : null;
  } catch {
    // Saving will say why.
    return null;
  }
};

for (const form of document.querySelectorAll("form[data-form]")) {
  let timer = 0;
  let last = 0;
  const later = (milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const number = ++last;
      const said = await check(form);
      if (said !== null && number === last) tell(form, said);
    }, milliseconds);
  };
  form.addEventListener("input", () => { later(350); });
  form.addEventListener("change", (event) => { if (!event.target.matches(".upload")) later(0); });
  form.addEventListener("read", () => { later(0); });
  for (const back of form.querySelectorAll("[data-back]")) {
    back.addEventListener("click", () => {
      const field = back.closest("[data-pointer]");
      field.querySelector("[data-rows]")?.dispatchEvent(new Event("restore"));
      const inputs = [...field.querySelectorAll("input:not([type=hidden]), select, textarea")];
      for (const input of inputs) {
        if (input.matches("[type=radio], [type=checkbox]")) input.checked = input.defaultChecked;
        else if (input.matches("select")) [...input.options].forEach((each) => { each.selected = each.defaultSelected; });
        else input.value = input.matches("[type=file]") ? "" : input.defaultValue;
        input.dispatchEvent(new Event("change", { bubbles: true }));
      }
      inputs.find((each) => each.checkVisibility({ visibilityProperty: true }))?.focus();
    });
  }
}

// Rows are added, removed and moved. Those of presets are found by what is typed into them, others by their numbers,
// which the server knows; each parameter of a preset has a sample beside.
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
    for (const name of ["id", "name", "for", "data-row", "data-pointer", "data-secret-of", "aria-describedby", "data-sample-of"]) {
      const value = each.getAttribute(name);
      if (value === null) continue;
      each.setAttribute(name, value === `${from}!error` ? `${to}!error` : `${value}#`.replace(`${from}#`, `${to}#`).slice(0, -1));
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
  let next = Number(last.dataset.row.split("#").at(-1)) + 1;
  const changed = () => {
    // Where there are places, they are those that one sees.
    for (const [at, row] of [...rows.querySelectorAll("[data-row]")].entries()) {
      const ordinal = row.querySelector("[data-ordinal]");
      if (ordinal === null) continue;
      ordinal.textContent = at + 1;
      row.querySelector("[name$='#name']").value = at + 1;
    }
    add.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const first = (row) => [...row?.querySelectorAll("input, button") ?? []].find((each) => each.checkVisibility({ visibilityProperty: true }));
  const ready = (row) => {
    const remove = row.querySelector("[data-remove]");
    remove.hidden = false;
    remove.addEventListener("click", () => {
      const near = first(row.nextElementSibling) ?? add;
      sampleOf(row)?.remove();
      row.remove();
      near.focus();
      changed();
    });
    for (const move of row.querySelectorAll("[data-move]")) {
      move.hidden = false;
      move.addEventListener("click", () => {
        // The other one moves, so that the focus stays.
        const other = move.dataset.move === "up" ? row.previousElementSibling : row.nextElementSibling;
        if (!other?.matches("[data-row]")) return;
        if (move.dataset.move === "up") row.after(other);
        else row.before(other);
        changed();
      });
    }
    if ("placed" in rows.dataset) return;
    row.addEventListener("input", () => { look(row, where); });
    look(row, where);
  };
  for (const row of all) {
    // Empty ones are for who has no script; one is there to begin with, where something must be.
    const filled = [...row.querySelectorAll("input, textarea")].some((each) => each.value);
    if (filled || (row === all[0] && row.querySelector("[data-ordinal]") !== null)) ready(row);
    else { sampleOf(row)?.remove(); row.remove(); }
  }
  const before = [...rows.querySelectorAll("[data-row]")];
  rows.addEventListener("restore", () => {
    for (const row of rows.querySelectorAll("[data-row]")) if (!before.includes(row)) row.remove();
    for (const row of before) add.before(row);
    changed();
  });
  add.hidden = false;
  add.addEventListener("click", () => {
    const row = numbered(model.cloneNode(true), last.dataset.row, `${where}#${next}`);
    if (sample) samples.insertBefore(numbered(sample.cloneNode(true), last.dataset.row, `${where}#${next}`), samples.lastElementChild);
    next += 1;
    add.before(row);
    for (const input of row.querySelectorAll("[data-secret-of]")) hideSecret(input);
    ready(row);
    first(row).focus();
    if ("placed" in rows.dataset) changed();
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
