"""Forms in a real browser: what is said while one edits, before anything is saved."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from browser.conftest import Open
from sidekey.admin.console.form.forms import form_for
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from support.api import Api, Running, basic
from support.certificates import Issued, issue
from support.everybody import OPEN, WIDTHS, look

SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => { for (const each of list.getEntries()) window.shifts += each.value; })
  .observe({ type: "layout-shift", buffered: true });
"""
"""Counts what moves, also just after somebody has typed."""


def certificate(days: float = 60, issuer: Issued | None = None) -> Issued:
    """One of now that ends in so many days."""
    return issue(issuer=issuer, start=datetime.now(UTC) - timedelta(days=30), life=timedelta(days=30 + days))


def said(page: Any, pointer: str, words: str) -> Any:
    """Wait until a field's note says so, and return the note."""
    page.wait_for_function(
        "([name, words]) => document.getElementById(name + '!note').textContent.includes(words)", arg=[pointer, words]
    )
    return page.locator(f'[id="{pointer}!note"]')


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_a_changed_destination_says_at_once_what_must_be_entered_again(
    tab: Open, running: Running, api: Api, scheme: str, width: int
) -> None:
    """While one types: nothing moves, no focus either, and one button puts it back."""
    name = f"moved-{scheme}-{width}"
    api.make("/integrations", {"id": name, **basic(running.upstream, "canary-stored")})
    one = tab(scheme=scheme, width=width)
    page = one.page
    one.open(f"/integrations/{name}")
    before = page.input_value('[id="/endpoint_prefix"]')
    page.evaluate(SHIFTS)
    assert not page.is_visible('[id="/auth/password"]')
    page.focus('[id="/endpoint_prefix"]')
    page.keyboard.press("End")
    page.keyboard.type("/more")
    page.wait_for_selector("[data-preview]:has-text('You changed where the credential goes')")
    assert "Enter again: Password, Username; or put Endpoint prefix back." in page.inner_text("[data-preview]")
    assert page.get_attribute("[data-preview]", "role") == "status"
    assert page.is_visible('[data-pointer="/auth/password"] >> text=enter again')
    assert page.is_visible('[id="/auth/password"]')
    page.wait_for_function("() => document.activeElement.id === '/endpoint_prefix'")
    page.fill('[id="/auth/username"]', "canary-user")
    page.fill('[id="/auth/password"]', "canary-typed")
    page.wait_for_selector("[data-preview]:has-text('and nowhere else')")
    assert not page.is_visible('[data-pointer="/auth/password"] >> text=enter again')
    page.fill('[id="/auth/username"]', "")
    page.fill('[id="/auth/password"]', "")
    page.wait_for_selector("[data-preview]:has-text('You changed where')")
    page.click("button:text-is('Put back')")
    page.wait_for_selector("[data-preview]:has-text('and nowhere else')")
    assert page.input_value('[id="/endpoint_prefix"]') == before
    page.wait_for_function("() => document.activeElement.id === '/endpoint_prefix'")
    assert not page.is_visible('[id="/auth/password"]')
    assert page.is_checked('[name="/auth/password#do"][value=keep]')
    assert page.evaluate("window.shifts") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "canary" not in page.content()
    assert api.get(f"/integrations/{name}")["version"] == 1


def test_a_row_is_marked_by_its_name(tab: Open, api: Api) -> None:
    """And by none that it is not."""
    headers = {"X-Tenant": "acme", "Authorization": {"prefix": "Bearer ", "secret": {"value": "canary"}}}
    document = {"endpoint_prefix": "https://a.example", "auth": {"type": "headers", "headers": headers}}
    api.make("/integrations", {"id": "rows", **document})
    one = tab()
    one.open("/integrations/rows")
    one.page.fill('[id="/endpoint_prefix"]', "https://b.example")
    one.page.wait_for_selector("[data-preview]:has-text('Enter again: Authorization; or put Endpoint prefix back.')")
    pairs = one.page.locator(".pair")
    assert [pairs.nth(row).locator("text=enter again").is_visible() for row in range(3)] == [False, True, False]
    assert one.page.is_visible('[id="/auth/headers#1#value"]')
    one.page.click("button:text-is('Put back') >> visible=true")
    one.page.wait_for_selector("[data-preview]:has-text('and nowhere else')")
    assert not pairs.nth(1).locator("text=enter again").is_visible()
    assert not one.page.is_visible('[id="/auth/headers#1#value"]')


@pytest.mark.parametrize("way", ["upload", "paste"])
def test_a_certificate_is_told_before_it_is_saved(tab: Open, api: Api, way: str) -> None:
    """Each problem in its own words, beside its field; then saved, with what was shown."""
    one = tab()
    page = one.page
    root = issue("Bank", authority=True, start=datetime.now(UTC) - timedelta(days=30))
    good, soon, expired, other = (certificate(days, root) for days in (60, 12.5, -3, 60))
    alone = certificate()

    def give(pointer: str, content: bytes) -> None:
        if way == "upload":
            file = {"name": "a.pem", "mimeType": "application/x-pem-file", "buffer": content}
            page.set_input_files(f'[name="{pointer}#file"]', file)
        else:
            page.fill(f'[id="{pointer}"]', content.decode())

    one.open("/add?kind=mtls")
    crt, key = "/auth/certificate", "/auth/private_key"
    give(crt, b"hello")
    assert "bad" in said(page, crt, "not PEM").get_attribute("class")
    give(crt, alone.pem)
    note = said(page, crt, "This certificate is self-signed")
    assert "CN=client.example, issued by CN=client.example" in note.inner_text()
    page.click("summary:has-text('More settings')")
    page.check('[id="/auth/allow_private_ca"]')
    said(page, crt, "59 days left")
    give(crt, expired.pem)
    assert "over for 3 days" in said(page, crt, "This certificate expired on").inner_text()
    give(crt, soon.pem)
    assert "warning" in said(page, crt, "12 days left").get_attribute("class")
    give(crt, good.pem + root.pem)
    assert "good" in said(page, crt, "With 1 of its chain.").get_attribute("class")
    give(key, other.key_pem)
    assert "bad" in said(page, key, "does not belong to the certificate").get_attribute("class")
    give(key, good.key_as(passphrase="canary"))
    said(page, key, "This private key is encrypted")
    if way == "upload":
        give(key, good.key_as(encoding=Encoding.DER))
        said(page, key, "This file is a private key in DER")
    give(key, good.key_pem)
    assert "good" in said(page, key, "It is the key of CN=client.example.").get_attribute("class")
    assert "PRIVATE KEY" not in page.content()
    page.fill('[id="/id"]', f"bank-{way}")
    page.fill('[id="/endpoint_prefix"]', "https://bank.example/v1")
    page.wait_for_selector("[data-preview]:has-text('The credential goes to https://bank.example/v1')")
    page.click("button:text-is('Save')")
    page.wait_for_url(f"**/integrations/bank-{way}?done=saved")
    assert "PRIVATE KEY" not in page.content()
    assert api.get(f"/integrations/bank-{way}")["auth"]["certificate"]["subject"] == "CN=client.example"
    give_other(page, certificate(60, root))
    page.wait_for_selector("[data-preview]:has-text('A certificate and its key are changed together')")
    assert page.is_visible('[data-pointer="/auth/private_key"] >> text=enter again')


def give_other(page: Any, found: Issued) -> None:
    """Choose another certificate on the page of one that has its own."""
    file = {"name": "a.pem", "mimeType": "application/x-pem-file", "buffer": found.pem}
    page.set_input_files('[name="/auth/certificate#file"]', file)


def test_a_file_is_sent_without_script(tab: Open, api: Api) -> None:
    """As browsers send forms with files; a check says the same, and has no key in its page."""
    one = tab(script=False)
    page, good = one.page, certificate()
    one.open("/add?kind=mtls")
    page.fill('[id="/id"]', "no-script-file")
    page.fill('[id="/endpoint_prefix"]', "https://bank.example/v1")
    page.click("summary:has-text('More settings')")
    page.check('[id="/auth/allow_private_ca"]')
    files = {"/auth/certificate#file": good.pem, "/auth/private_key#file": good.key_pem}
    for name, content in files.items():
        page.set_input_files(f'[name="{name}"]', {"name": "a.pem", "mimeType": "text/plain", "buffer": content})
    page.click("button:text-is('Check')")
    page.wait_for_selector("text=It is the key of CN=client.example.")
    assert "PRIVATE KEY" not in page.content()
    page.set_input_files(
        '[name="/auth/private_key#file"]', {"name": "a.pem", "mimeType": "text/plain", "buffer": good.key_pem}
    )
    page.click("button:text-is('Save')")
    page.wait_for_url("**/integrations/no-script-file?done=saved")
    assert api.get("/integrations/no-script-file")["usable"] is True


VISIBLE = """() => [...document.querySelectorAll("[data-pointer]")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true })).map((each) => each.dataset.pointer)"""


def test_every_kind_and_provider_has_a_form_for_everybody(tab: Open) -> None:
    """Everybody can use it, and whoever begins sees at most what is needed.

    Forms of one kind's providers have the same fields: one of each is looked at.
    """
    one = tab()
    forms = [(f"kind={name}", form_for(name)) for name in KINDS]
    providers = {profiles.profile(name).kind: name for name in profiles.names()}
    forms += [(f"provider={name}", form_for(kind, name)) for kind, name in providers.items()]
    for query, form in forms:
        one.open(f"/add?{query}")
        for width in WIDTHS:
            one.resize(width)
            shown = set(one.page.evaluate(VISIBLE))
            # What counts with a choice is there once that is made.
            assert {field.pointer for field in form.first} - form.when.keys() <= shown, (query, width)
            assert shown.isdisjoint(field.pointer for field in form.more), (query, width)
        one.page.evaluate(OPEN)
        look(one, query)


def test_what_one_needs_is_found_by_words(tab: Open) -> None:
    """Of the name, or of what must be at hand; what is not found is said."""
    one = tab()
    one.open("/add")
    one.page.fill("#find", "munchkin")
    assert one.page.inner_text("[data-found]") == "1 found."
    assert re.findall(r"You need: [^\n]+", one.page.inner_text("#choices")) == [
        "You need: Munchkin ID, Client ID, Client secret"
    ]
    one.page.fill("#find", "nothing like it")
    assert "Nothing is like that" in one.page.inner_text("[data-found]")
    assert one.page.inner_text("#choices").strip() == ""


def test_a_key_that_signs_keeps_its_lines(tab: Open, api: Api) -> None:
    """In a form by a provider that needs one; what is wrong with it is said at once."""
    one = tab()
    page, key = one.page, "/auth/assertion/private_key"
    one.open("/add?provider=google-service-account")
    values = {
        "/id": "robot",
        "/auth/service_account": "robot@my-project.iam.gserviceaccount.com",
        "/auth/scope": "https://www.googleapis.com/auth/devstorage.read_only",
        "/auth/api": "storage",
        key: certificate().key_pem.decode(),
    }
    for pointer, text in values.items():
        page.fill(f'[id="{pointer}"]', text)
    said(page, key, "RS256")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    page.fill(f'[id="{key}"]', pem.decode())
    page.wait_for_selector("[data-preview]:has-text('storage.googleapis.com')")
    page.click("button:text-is('Save')")
    page.wait_for_url("**/integrations/robot?done=saved")
    assert api.get("/integrations/robot")["usable"] is True
    assert "PRIVATE KEY" not in page.content()


def row(page: Any, number: int, field: str = "/auth/claims") -> Any:
    """A row of a document, or of a list of secrets."""
    return page.locator(f'[data-row="{field}#{number}"]')


def fill_row(page: Any, number: int, path: str, kind: str, value: str, field: str = "/auth/claims") -> None:
    """Fill a row, which is added where it is not there yet."""
    if not row(page, number, field).count():
        page.click(f'[data-rows="{field}"] > button:text-is("Add value")')
    page.fill(f'[id="{field}#{number}#name"]', path)
    page.select_option(f'[id="{field}#{number}#kind"]', label=kind)
    page.fill(f'[id="{field}#{number}#value"]', value)


@pytest.mark.parametrize("script", [True, False])
def test_nested_claims_are_rows_and_a_secret_among_them_is_entered_once(tab: Open, api: Api, script: bool) -> None:
    """With script and without: made, edited, moved; errors stand at their rows, and nothing typed is lost."""
    name = f"claims-{script}".lower()
    one = tab(script=script)
    page = one.page
    one.open("/add?kind=jwt")
    page.fill('[id="/id"]', name)
    page.fill('[id="/endpoint_prefix"]', "https://api.example.com/v1")
    page.select_option('[id="/auth/algorithm"]', "HS256")
    page.fill('[id="/auth/secret"]', "canary-canary-canary-canary-secret")
    first = 2 if script else 0
    fill_row(page, first, "team.name", "text", "ours")
    fill_row(page, first + 1, "team.name", "number", "x")
    page.click("button:text-is('Save')")
    wrong = page.locator(f'[id="/auth/claims#{first + 1}!error"]:visible')
    wrong.wait_for()
    assert wrong.inner_text() == "the value must be a number, such as 5 or 0.5; the path must not be there twice"
    assert page.input_value(f'[id="/auth/claims#{first + 1}#value"]') == "x"
    assert row(page, first).locator(".error:visible").count() == 0
    page.fill(f'[id="/auth/claims#{first + 1}#name"]', "keys.0")
    page.select_option(f'[id="/auth/claims#{first + 1}#kind"]', label="secret")
    page.fill(f'[id="/auth/claims#{first + 1}#value"]', "canary-first")
    fill_row(page, first + 2, "keys.1", "secret", "canary-second")
    if not script:
        page.fill('[id="/auth/secret"]', "canary-canary-canary-canary-secret")
    page.click("button:text-is('Save')")
    page.wait_for_url(f"**/integrations/{name}?done=saved")
    made = api.get(f"/integrations/{name}")["auth"]["claims"]
    assert made["team"] == {"name": "ours"}
    assert [each["set"] for each in made["keys"]] == [True, True]
    assert "canary" not in page.content()
    # Each takes the place of the other, and a number is added.
    assert page.input_value('[id="/auth/claims#1#name"]') == "keys.0"
    page.fill('[id="/auth/claims#1#name"]', "keys.1")
    page.fill('[id="/auth/claims#2#name"]', "keys.0")
    page.click("button:text-is('Save')")
    page.wait_for_url(f"**/integrations/{name}?done=saved")
    page.wait_for_function(
        "([id, path]) => document.getElementById(id).value === path", arg=["/auth/claims#1#name", "keys.0"]
    )
    moved = api.get(f"/integrations/{name}")["auth"]["claims"]
    assert moved == {**made, "keys": made["keys"][::-1]}
    assert api.get(f"/integrations/{name}")["usable"] is True


@pytest.mark.parametrize("script", [True, False])
def test_a_login_with_a_nested_body_is_edited_without_its_secrets(tab: Open, api: Api, script: bool) -> None:
    """Made of rows; described, and its secrets put in another order, it keeps them, and everybody can use its page."""
    name, body = f"login-{script}".lower(), "/auth/login/body"
    one = tab(script=script)
    page = one.page
    one.open("/add?kind=session")
    page.fill('[id="/id"]', name)
    page.fill('[id="/auth/login/url"]', "https://ws.example.com/login")
    page.fill('[id="/auth/token/from"]', "data.token")
    first = 2 if script else 0
    fill_row(page, first, "user.name", "text", "svc", body)
    fill_row(page, first + 1, "user.key", "secret", "canary-key", body)
    page.click("button:text-is('Save')")
    page.wait_for_url(f"**/integrations/{name}?done=saved")
    assert api.get(f"/integrations/{name}")["auth"]["login"]["body"]["user"]["key"]["set"] is True
    keys = {"keys": [{"value": "canary-a"}, {"value": "canary-b"}], "flags": {"on": True, "off": [], "n": 2}}
    user = {"user": {"name": "svc", "key": {"value": "canary-key"}}}
    patch = {"auth": {"login": {"body": {**user, **keys}}}}
    made = api.ask("PATCH", f"/integrations/{name}", patch, match='"1"').json["auth"]["login"]["body"]
    one.open(f"/integrations/{name}")
    shown = {each: page.input_value(f'[id="{body}#{each}#name"]') for each in range(7)}
    assert [*shown.values()] == ["user.name", "user.key", "keys.0", "keys.1", "flags.on", "flags.off", "flags.n"]
    if script:
        look(one, "rows of a nested body")
    page.fill(f'[id="{body}#2#name"]', "keys.1")
    page.fill(f'[id="{body}#3#name"]', "keys.0")
    page.click("summary:has-text('More settings')")
    page.fill('[id="/description"]', "Logs in.")
    page.click("button:text-is('Save')")
    page.wait_for_url(f"**/integrations/{name}?done=saved")
    saved = api.get(f"/integrations/{name}")
    assert saved["description"] == "Logs in."
    assert saved["auth"]["login"]["body"] == {**made, "keys": made["keys"][::-1]}
    # What is public decides where secrets go: all of them are asked for, each at its row.
    page.fill(f'[id="{body}#0#value"]', "other")
    if script:
        page.wait_for_selector(
            "[data-preview]:has-text('Enter again: keys.0, keys.1, user.key; or put user.name back.')"
        )
        marked = [row(page, each, body).locator("text=enter again").is_visible() for each in range(4)]
        assert marked == [False, True, True, True]
    page.click("button:text-is('Save')")
    page.wait_for_selector(f'[id="{body}#1!error"]:visible')
    assert "canary" not in page.content()
    assert api.get(f"/integrations/{name}")["version"] == saved["version"]


def test_a_login_by_a_jwt_shows_the_key_of_its_algorithm_alone(tab: Open) -> None:
    """And none once it is authenticated otherwise, whatever algorithm is still chosen in the field that is hidden."""
    one = tab()
    page = one.page
    one.open("/add?kind=session")
    auth = "/auth/login/auth"

    def shown() -> list[str]:
        keys = ("algorithm", "private_key", "secret", "secret_encoding", "password")
        return [key for key in keys if page.locator(f'[data-pointer="{auth}/{key}"]').is_visible()]

    page.click("summary:text-is('Auth')")
    assert shown() == []
    page.select_option(f'[id="{auth}/type"]', "jwt")
    assert shown() == ["algorithm"]
    page.select_option(f'[id="{auth}/algorithm"]', "ES256")
    assert shown() == ["algorithm", "private_key"]
    page.select_option(f'[id="{auth}/algorithm"]', "HS256")
    assert shown() == ["algorithm", "secret", "secret_encoding"]
    page.select_option(f'[id="{auth}/type"]', "basic")
    assert shown() == ["password"]


SECRET = "/auth/secret"
LISTED = f'[data-rows="{SECRET}"]'


def saved_secrets(page: Any, api: Api, name: str, version: int) -> list[str]:
    """Save, and wait until that version is shown; the row IDs of its secrets."""
    page.click("button:text-is('Save')")
    page.wait_for_selector(f'[name=version][value="{version}"]', state="attached")
    return [each.get("row", "") for each in api.get(f"/integrations/{name}")["auth"]["secret"]]


def test_a_new_secret_that_signs_is_put_first_and_the_old_one_removed(tab: Open, api: Api) -> None:
    """By the keyboard alone; no other is entered again, the focus stays, and removing can be taken back."""
    name = "rotation"
    auth = {"type": "signature", "scheme": "stripe", "secret": {"value": "canary-old"}}
    api.make("/integrations", {"id": name, "endpoint_prefix": "https://a.example", "auth": auth})
    one = tab()
    page = one.page
    one.open(f"/integrations/{name}")
    assert row(page, 0, SECRET).locator("text=Set on").is_visible()
    assert not page.is_visible(f'[id="{SECRET}#0#name"]')
    assert not page.is_visible('[data-pointer="/auth/signed"]')
    page.select_option('[id="/auth/scheme"]', "custom")
    assert page.is_visible('[data-pointer="/auth/signed"]')
    page.select_option('[id="/auth/scheme"]', "stripe")
    page.focus(f"{LISTED} > button:text-is('Add another')")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.type === 'password'")
    page.keyboard.type("canary-new")
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.activeElement.textContent === 'Up'")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.textContent === 'Up'")
    assert page.locator(f"{LISTED} .pair").first.locator("input[type=password]").input_value() == "canary-new"
    assert page.locator(f"{LISTED} .pair label[for$='#value']").all_inner_texts() == ["Secret 1", "Secret 2"]
    look(one, "secrets in another order")
    new, old = saved_secrets(page, api, name, 2)
    assert (new[:2], old) == ("r_", "")
    assert "canary" not in page.content()
    page.locator(f"{LISTED} .pair").nth(1).locator("[data-remove]").focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{LISTED} .pair").count() == 1
    page.wait_for_function("() => document.activeElement.textContent === 'Add another'")
    assert saved_secrets(page, api, name, 3) == [new]


def test_secrets_that_sign_are_put_in_order_without_script(tab: Open, api: Api) -> None:
    """By their places; what is removed is said."""
    name = "in-order"
    secrets = [{"value": "canary-one"}, {"value": "canary-two"}]
    auth = {"type": "signature", "scheme": "stripe", "secret": secrets}
    made = api.make("/integrations", {"id": name, "endpoint_prefix": "https://a.example", "auth": auth})
    first, second = (each["row"] for each in made["auth"]["secret"])
    one = tab(script=False)
    page = one.page
    one.open(f"/integrations/{name}")
    page.fill(f'[id="{SECRET}#0#name"]', "3")
    assert saved_secrets(page, api, name, 2) == [second, first]
    page.fill(f'[id="{SECRET}#2#value"]', "canary-three")
    page.fill(f'[id="{SECRET}#2#name"]', "0")
    page.check(f'[name="{SECRET}#1#value#do"][value=remove]')
    third, last = saved_secrets(page, api, name, 3)
    assert (last, third in {first, second}) == (second, False)
    assert "canary" not in page.content()


def test_rows_are_put_back_as_they_were(tab: Open, api: Api) -> None:
    """Also those that were removed, and not those that were added."""
    claims = {"team": "ours", "keys": [{"value": "canary"}], "level": 3}
    auth = {"type": "jwt", "algorithm": "HS256", "secret": {"value": "canary" * 8}, "claims": claims}
    api.make("/integrations", {"id": "put-back", "endpoint_prefix": "https://a.example", "auth": auth})
    one = tab()
    page = one.page
    one.open("/integrations/put-back")

    def names() -> list[str]:
        found: list[str] = page.eval_on_selector_all(
            "[data-rows='/auth/claims'] [name$='#name']", "all => all.map((each) => each.value)"
        )
        return found

    before = names()
    assert before == ["team", "keys.0", "level"]
    row(page, 0).locator("[data-remove]").click()
    fill_row(page, 5, "more", "text", "x")
    page.wait_for_selector("[data-preview]:has-text('Enter again: keys.0, Secret; or put more, team back.')")
    assert row(page, 1).locator("text=enter again").is_visible()
    assert names() == ["keys.0", "level", "more"]
    page.locator('[data-pointer="/auth/claims"] button:text-is("Put back")').click()
    page.wait_for_selector("[data-preview]:has-text('and nowhere else')")
    assert names() == before
    assert api.get("/integrations/put-back")["version"] == 1
