"""fields.js, parts.js, dialog.js and api.js in Chromium: labels, errors, rows, focus, hostile texts, a lost session."""

from __future__ import annotations

import json
from typing import Any, Final

from playwright.sync_api import expect

from console.test_frame import ANN, NOBODY, WHO, open_page
from support.ui import HOSTILE, Console, assert_accessible, problem

MOUNT: Final = """async (hostile) => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "");
  const names = ["vendor/preact.js", "fields.js", "parts.js", "dialog.js", "router.js"];
  const modules = await Promise.all(names.map((name) => import(base + name)));
  const [{ html, useState }, fields, parts, { ask }, { view }] = modules;
  const { Text, Area, Secret, Choice, Radios, Check, Search, FileText, Pairs, Rows, Submit } = fields;
  const { errorsAt, focusFirst } = fields;
  const problem = { code: "invalid", title: "The content is not valid", detail: "see errors", errors: [
    { pointer: "/phone", detail: "is required" }, { pointer: "/auth/key", detail: "is no PEM" }] };
  function All() {
    const [values, setValues] = useState({ phone: "", note: hostile[0], secret: "", language: "en", kind: "b",
      agree: false, pem: "", pairs: [{ name: "a", value: "1" }], domains: [], q: "", sent: "" });
    const [problemShown, setProblem] = useState(null);
    const set = (name) => (value) => setValues((previous) => ({ ...previous, [name]: value }));
    const question = async () =>
      set("sent")(String(await ask({ title: "Delete it?", text: hostile[0], yes: "Delete", danger: true })));
    const submit = (event) => {
      event.preventDefault();
      setProblem(problem);
      setTimeout(() => focusFirst(event.target));
    };
    const at = (pointer) => errorsAt(problemShown, pointer);
    return html`
      <${parts.Page} title="Every field"
        actions=${html`<button type="button" class="button" onClick=${question}>Delete</button>`}>
      <form onSubmit=${submit}>
        <${parts.Problem} problem=${problemShown} fieldPointers=${["/phone"]} />
        <${Text} label="Phone" type="tel" required value=${values.phone} onInput=${set("phone")}
          error=${at("/phone")} help="With country code" example="+44 7700 900123" suggestions=${["+1", "+44"]} />
        <${Area} label="Note" value=${values.note} onInput=${set("note")} />
        <${Secret} label="Client secret" value=${values.secret} onInput=${set("secret")} />
        <${Radios} label="Language" value=${values.language} onInput=${set("language")}
          options=${[["en", "English"], ["sk", "Slovak"]]} />
        <${Choice} label="Kind" value=${values.kind} onInput=${set("kind")}
          options=${["a", ["b", "Basic"], ["c", "Expired one", "expired"]]} />
        <${Check} label="I agree" value=${values.agree} onInput=${set("agree")} />
        <${FileText} label="Certificate" value=${values.pem} onInput=${set("pem")} error=${at("/auth")} />
        <${Pairs} label="Additional fields" add="Add field" items=${values.pairs} onChange=${set("pairs")} />
        <${Rows} add="Add domain" items=${values.domains} onChange=${set("domains")} empty=""
          row=${(item, change) => html`<${Text} label="Domain" value=${item} onInput=${change} />`} />
        <${Submit}>Save<//>
      </form>
      <${Search} label="Search" value=${values.q} onInput=${set("q")} />
      <pre>${JSON.stringify(values)}</pre>
      ${hostile.map((text) => html`<p><${parts.Tile} name=${text} /> ${text}
        <${parts.State} status="failing" text=${text} /></p>`)}
      <${parts.Copy} text="copied text" /> <${parts.Time} at="2026-11-30T10:42:07Z" /> <${parts.More} next="5" />
      <${parts.Tabs} items=${[["one", "One"], ["csv", "From a CSV file"]]} value="one" />
      <${parts.Empty}><p>Nothing yet.</p><//> <${parts.Details} summary="More"><p>Text</p><//>
      <//>`;
  }
  view.value = { Page: All };
}"""


def open_fields(console: Console) -> Any:
    """Open a page with every field and part."""
    page = open_page(console, "/login", {"GET /api/v1/session": ANN})
    page.get_by_label("Token", exact=True).wait_for()
    page.evaluate(MOUNT, HOSTILE)
    page.get_by_role("heading", name="Every field").wait_for()
    return page


def field_values(page: Any) -> dict[str, Any]:
    """Return the values of the fields."""
    result: dict[str, Any] = json.loads(page.locator("pre").inner_text())
    return result


def test_fields_and_parts_are_accessible_with_hostile_texts(console: Console) -> None:
    """Labels identify fields. An error is beside its field, which gets the focus."""
    page = open_fields(console)
    page.get_by_role("button", name="Save").click()
    phone = page.get_by_label("Phone")
    expect(phone).to_be_focused()
    described = phone.get_attribute("aria-describedby").split()
    assert {page.locator(f"[id='{name}']").inner_text() for name in described} == {"Is required.", "With country code"}
    alert = page.get_by_role("alert").inner_text()
    assert "/auth/key" in alert
    assert "/phone" not in alert
    assert_accessible(page)

    page.get_by_label("Phone").fill("+44 7700")
    page.get_by_label("Client secret", exact=True).fill("s3cret")
    assert page.get_by_label("Client secret", exact=True).get_attribute("type") == "password"
    page.get_by_role("button", name="Show Client secret").click()
    assert page.get_by_label("Client secret", exact=True).get_attribute("type") == "text"
    page.get_by_label("Slovak").check()
    page.get_by_label("Kind").select_option("a")
    page.get_by_label("I agree").check()
    file = {"name": "a.pem", "mimeType": "text/plain", "buffer": b"-----BEGIN"}
    page.get_by_label("Read Certificate from a file").set_input_files(file)
    page.get_by_role("button", name="Add domain").click()
    page.keyboard.type("https://a.example")
    page.get_by_role("button", name="Add domain").click()
    page.keyboard.type("https://b.example")
    page.get_by_role("group", name="Add domain").get_by_role("button", name="Remove row 1").click()
    page.get_by_role("group", name="Additional fields").get_by_label("Value").fill("2")
    page.get_by_role("searchbox", name="Search").fill(" Azure ")
    page.locator("pre", has_text='"q":"Azure"').wait_for()
    result = field_values(page)
    assert result == {
        "phone": "+44 7700", "note": HOSTILE[0], "secret": "s3cret", "language": "sk", "kind": "a", "agree": True,
        "pem": "-----BEGIN", "pairs": [{"name": "a", "value": "2"}], "domains": ["https://b.example"], "q": "Azure",
        "sent": "",
    }  # fmt: skip

    # The dialog works by keyboard.
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog", name="Delete it?").wait_for()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    page.locator("pre", has_text='"sent":"false"').wait_for()
    expect(page.get_by_role("button", name="Delete")).to_be_focused()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.locator("pre", has_text='"sent":"true"').wait_for()


CALL: Final = """async () => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "");
  const { get } = await import(`${base}api.js`);
  window.results = Promise.all(["/presets", "/sessions"].map(async (path) => (await get(path)).status));
}"""


def open_ended_session(console: Console, next_person: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Open a page, and end its session during two calls. `next_person` can log in."""
    lost = problem(401, "unauthenticated")
    bodies: dict[str, Any] = {
        "GET /api/v1/session": ANN, "GET /api/v1/presets": lost, "GET /api/v1/sessions": lost,
        "POST /api/v1/session": (201, next_person),
    }  # fmt: skip
    page = open_page(console, "/login", bodies)
    page.get_by_label("Token", exact=True).fill("typed")
    page.evaluate(CALL)
    page.get_by_role("dialog", name="Log in again").wait_for()
    return page, bodies


def test_person_loses_nothing_with_or_without_a_new_log_in(console: Console) -> None:
    page, bodies = open_ended_session(console, WHO)
    page.get_by_role("button", name="Not now").click()
    assert page.evaluate("window.results") == [401, 401]
    assert page.get_by_label("Token", exact=True).input_value() == "typed"
    page.evaluate(CALL)
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.count() == 1
    dialog.get_by_label("Token", exact=True).fill("again")
    bodies |= {"GET /api/v1/presets": {"items": []}, "GET /api/v1/sessions": {"items": []}}
    dialog.get_by_role("button", name="Log in").click()
    assert page.evaluate("window.results") == [200, 200]
    assert page.get_by_label("Token", exact=True).input_value() == "typed"


def test_log_in_of_another_person_discards_the_page(console: Console) -> None:
    page, bodies = open_ended_session(console, {**WHO, "identity": "config:ben"})
    bodies |= {"GET /api/v1/session": {**NOBODY, "who": {**WHO, "name": "ben", "identity": "config:ben"}}}
    page.get_by_role("dialog").get_by_label("Token", exact=True).fill("another")
    page.get_by_role("dialog").get_by_role("button", name="Log in").click()
    page.get_by_text("Somebody else has logged in, so what was typed here is gone.").wait_for()
    assert page.get_by_label("Token", exact=True).input_value() == ""
    page.get_by_text("ben (editor)").wait_for()
