"""The forms of integrations in Chromium, as a developer uses them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from playwright.sync_api import expect

from sidekey.snapshot.admin import Role
from support.api import TOKENS, basic
from support.certificates import issue
from support.ui import HOSTILE, Console, assert_accessible, press, problem


@pytest.fixture(autouse=True)
def delete_created_integrations(console: Console) -> Iterator[None]:
    """Delete the integrations of a test, because tests of other pages list every integration."""
    api = console.api("admin")
    before = {item["id"] for item in api.get("/integrations")["items"]}
    yield
    for item in api.get("/integrations")["items"]:
        if item["id"] not in before:
            api.remove(f"/integrations/{item['id']}", f'"{item["version"]}"')


def box(page: Any, label: str) -> Any:
    """Return the input with a label, which ends with a star if it is required."""
    return page.get_by_label(re.compile(rf"^{label}( \*)?$"))


def stored_document(console: Console, name: str) -> Any:
    return console.api("editor").get(f"/integrations/{name}")


def wait_until_saved(page: Any, name: str) -> None:
    page.wait_for_url(f"**/ui/integrations/{name}")


def test_oauth_is_added_tested_saved_and_changed(console: Console) -> None:
    """The form has endpoint, domains, client, additional fields and a test."""
    console.upstream.body = json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 3600}).encode()
    page = console.open("editor", "/add/integrations/oauth2")
    box(page, "Name").fill("Criteo Marketing")
    assert box(page, "ID").input_value() == "criteo-marketing"
    box(page, "Token endpoint").fill(f"{console.upstream.url}/token")
    page.get_by_label("Allow webhooks from domains").check()
    box(page, "Domain").fill(console.upstream.url)
    box(page, "Client ID").fill("the-client")
    box(page, "Client secret").fill("canary-of-the-client")
    page.get_by_label("In the body").check()
    press(page, "Add field")
    box(page, "Name").last.fill("scope")
    box(page, "Value").fill("read")
    page.get_by_text(f"Requests may go to {console.upstream.url} and below.").wait_for()
    press(page, "Test integration")
    page.get_by_text("Add a request to test with").wait_for()
    expect(box(page, "Path")).to_be_focused()
    page.keyboard.type("/me")
    press(page, "Test integration")
    page.locator("strong", has_text="It works: the response was 200").wait_for()
    token, tested = console.upstream.received[-2:]
    assert b"scope=read" in token.body
    assert b"client_secret=canary-of-the-client" in token.body
    assert (tested.path, tested.headers["Authorization"]) == ("/me", "Bearer t")
    page.get_by_text("Where the access token goes: header Authorization, with requests to").wait_for()
    press(page, "Save")
    wait_until_saved(page, "criteo-marketing")
    page.get_by_text("Tested just now.").wait_for()
    document = stored_document(console, "criteo-marketing")
    assert document["auth"]["client_secret"]["set"] is True
    assert document["auth"]["token_request"] == {"body": {"scope": "read"}}
    assert document["test"] == {"path": "/me"}
    assert document["allowed_domains"] == [console.upstream.url]


def test_form_of_basic_hides_the_secret_and_says_why_to_enter_it_again(console: Console) -> None:
    page = console.open("editor", "/add/integrations/basic")
    box(page, "ID").fill("customers")
    box(page, "Endpoint prefix").fill(f"{console.upstream.url}/v1")
    box(page, "User name").fill("canary-user")
    box(page, "Password").fill("canary-password")
    press(page, "Save")
    wait_until_saved(page, "customers")
    page.goto(f"{console.base}/ui/integrations/customers/edit")
    page.get_by_text("Set by editor-of-file").first.wait_for()
    assert "canary" not in page.content()
    box(page, "Endpoint prefix").fill(f"{console.upstream.url}/v2")
    page.get_by_text("Enter it again, because the endpoint prefix has changed.").first.wait_for()
    page.get_by_text("Enter again: User name, Password.").wait_for()
    press(page, "Replace Password")
    box(page, "Password").fill("canary-new")
    page.get_by_text("Enter again: User name.").wait_for()
    assert_accessible(page)
    press(page, "Keep the saved Password")
    page.get_by_text("Enter again: User name, Password.").wait_for()
    box(page, "Endpoint prefix").fill(f"{console.upstream.url}/v1")
    page.get_by_text("Enter again").wait_for(state="hidden")
    box(page, "Path").fill("/me")
    press(page, "Test integration")
    page.get_by_text("Save first: a stored secret is only used for what is saved.").wait_for()
    press(page, "Save and test")
    page.locator("strong", has_text="It works: the response was 200").wait_for()
    assert console.upstream.received[-1].path == "/v1/me"
    assert console.upstream.received[-1].headers["Authorization"].startswith("Basic ")


def test_page_after_saving_warns_of_a_host_to_which_sidekey_may_not_connect(console: Console) -> None:
    """Also after a save that changes nothing. A saved host without the problem ends it."""
    page = console.open("editor", "/add/integrations/basic")
    box(page, "ID").fill("private")
    box(page, "Endpoint prefix").fill("http://10.1.2.3")
    box(page, "User name").fill("user")
    box(page, "Password").fill("canary-password")
    press(page, "Save")
    wait_until_saved(page, "private")
    warning = page.get_by_text("Requests to http://10.1.2.3 are denied now: ")
    warning.wait_for()
    assert page.get_by_text("Not used yet").is_visible()
    assert_accessible(page)
    for prefix, count in (("http://10.1.2.3", 1), (console.upstream.url, 0)):
        page.get_by_role("link", name="Edit", exact=True).click()
        box(page, "Endpoint prefix").fill(prefix)
        if count == 0:
            for label in ("User name", "Password"):
                press(page, f"Replace {label}")
                box(page, label).fill(f"canary-{label}")
        press(page, "Save")
        wait_until_saved(page, "private")
        page.get_by_role("heading", name="Usage").wait_for()
        expect(warning).to_have_count(count)


def test_form_of_headers_starts_with_a_bearer_token_and_rows_can_be_added(console: Console) -> None:
    page = console.open("editor", "/add/integrations/headers")
    box(page, "ID").fill("keys")
    box(page, "Endpoint prefix").fill(console.upstream.url)
    page.get_by_label("An API key").check()
    box(page, "Name").last.fill("X-API-Keys")
    expect(page.get_by_label("An API key")).to_be_checked()
    box(page, "Name").last.fill("X-API-Key")
    box(page, "Value").fill("canary-key")
    press(page, "Add header")
    box(page, "Name").last.fill("X-Team")
    page.get_by_label("Secret", exact=True).last.uncheck()
    box(page, "Value").last.fill("marketing")
    press(page, "Add header")
    box(page, "Name").last.fill("X-Team")
    page.get_by_text("Row 2 is called X-Team, too. Rename one.").wait_for()
    remove, name = (
        page.get_by_role("button", name="Remove row 1").bounding_box(),
        box(page, "Name").nth(1).bounding_box(),
    )
    assert abs(remove["y"] - name["y"]) < 0.5
    page.set_viewport_size({"width": 390, "height": 900})
    assert box(page, "Value").first.bounding_box()["width"] > 250
    press(page, "Save")
    assert console.api("editor").request("GET", "/integrations/keys").status == 404
    press(page, "Remove row 3")
    press(page, "Save")
    wait_until_saved(page, "keys")
    headers = stored_document(console, "keys")["auth"]["headers"]
    assert headers["X-Team"] == "marketing"
    assert headers["X-API-Key"]["secret"]["set"] is True
    page.get_by_text("X-Team: marketing (public)").wait_for()
    page.get_by_text("X-API-Key (secret)").wait_for()


def test_stored_secret_does_not_become_an_empty_public_header(console: Console) -> None:
    headers = {"X-Api-Key": {"secret": {"value": "canary"}}, "X-Team": "marketing"}
    console.api("editor").post(
        "/integrations",
        {"id": "loyal", "endpoint_prefix": console.upstream.url, "auth": {"type": "headers", "headers": headers}},
    )
    page = console.open("editor", "/integrations/loyal/edit")
    page.get_by_text("Where the credential goes: header X-Api-Key, with requests to").wait_for()
    page.get_by_label("Secret", exact=True).first.uncheck()
    page.get_by_text("The stored secret does not become public.").wait_for()
    page.get_by_text("A value that usually is secret is public: check Secret.").wait_for()
    box(page, "Value").last.fill("")
    press(page, "Save")
    page.get_by_text("Enter a value.").wait_for()
    assert_accessible(page)
    assert stored_document(console, "loyal")["auth"]["headers"]["X-Api-Key"]["secret"]["set"] is True
    page.get_by_label("Secret", exact=True).first.check()
    box(page, "Value").last.fill("sales")
    press(page, "Save")
    wait_until_saved(page, "loyal")
    assert stored_document(console, "loyal")["auth"]["headers"]["X-Team"] == "sales"


def test_saving_leads_to_the_secret_that_must_be_entered_again(console: Console) -> None:
    auth = {
        "type": "oauth2",
        "token_endpoint": "https://auth.shop.example/token",
        "client_id": "c",
        "client_secret": {"value": "canary"},
        "token_request": {"body": {"scope": "read"}},
    }
    shop = {"id": "shop", "endpoint_prefix": "https://auth.shop.example/api", "auth": auth}
    console.api("editor").post("/integrations", shop)
    page = console.open("editor", "/integrations/shop/edit")
    # The prefix limits what the host of the token endpoint would allow.
    page.get_by_text("Requests may go to https://auth.shop.example/api and below.").wait_for()
    page.get_by_text("header Authorization, with requests to https://auth.shop.example/api.").wait_for()
    press(page, "Remove row 1")
    page.get_by_text("Enter it again, because the list of fields has changed.").wait_for()
    box(page, "Token endpoint").fill("https://auth.shop.example/v2/token")
    page.get_by_text("Enter again: Client secret.").wait_for()
    press(page, "Save")
    page.locator("strong", has_text="Secrets must be entered again").wait_for()
    expect(page.get_by_role("button", name="Replace Client secret")).to_be_focused()


def test_forms_are_accessible(console: Console) -> None:
    """An empty domain has no error before a person types."""
    page = console.open("editor", "/add/integrations/oauth2")
    # Waiting for each response ensures that its errors are drawn.
    with page.expect_response("**/drafts/integration/preview"):
        page.get_by_label("Allow webhooks from domains").check()
    with page.expect_response("**/drafts/integration/preview"):
        box(page, "Client ID").fill("c")
    assert page.locator(".error").count() == 0
    box(page, "Domain").fill("api.shop.example")
    page.get_by_text("Begin with https://, such as https://api.example.com.").wait_for()
    press(page, "Add field")
    page.get_by_label("Secret", exact=True).check()
    press(page, "Save")
    page.get_by_text("Fill this in.").first.wait_for()
    page.get_by_text("200 is success").wait_for()
    assert_accessible(page)
    page.get_by_role("link", name="Advanced").click()
    page.get_by_role("button", name="Line 1").first.wait_for()
    assert_accessible(page)


def test_pasted_certificate_is_described_at_once(console: Console) -> None:
    """The description appears before the key is entered. Another certificate needs its key."""
    issued = issue("client.example.com", start=datetime.now(UTC) - timedelta(days=1), life=timedelta(days=199.5))
    page = console.open("editor", "/add/integrations/mtls")
    box(page, "ID").fill("bank")
    box(page, "Endpoint prefix").fill("https://bank.example")
    box(page, "Private key").fill(issued.pem.decode())
    page.get_by_text("This is a certificate: enter it in the field Certificate.").wait_for()
    box(page, "Certificate").fill(issued.key_pem.decode())
    page.get_by_text("This is a private key: enter it in the field Private key.").wait_for()
    box(page, "Private key").fill("")
    container = serialize_key_and_certificates(None, issued.key, issued.certificate, None, NoEncryption())
    bundle = {"name": "client.p12", "mimeType": "application/x-pkcs12", "buffer": container}
    page.get_by_label("Read Certificate from a file").set_input_files(bundle)
    page.get_by_text(
        "Only PEM, which is text. Convert the file: openssl pkcs12 -nokeys -in FILE -out FILE.pem"
    ).wait_for()
    expect(box(page, "Certificate")).to_have_value(issued.key_pem.decode())
    page.get_by_label("Read Certificate from a file").set_input_files(
        {"name": "client.pem", "mimeType": "application/x-pem-file", "buffer": issued.pem}
    )
    page.get_by_text("CN=client.example.com, issued by").wait_for()
    page.get_by_text("(198 days)").wait_for()
    page.get_by_text("It is self-signed: check the box below").wait_for()
    box(page, "Private key").fill(issued.key_as(passphrase="x").decode())
    page.get_by_text("This private key is encrypted: decrypt it with openssl pkey").wait_for()
    box(page, "Private key").fill(issued.key_pem.decode())
    page.get_by_text("self-signed").first.wait_for()
    page.get_by_label("The certificate may be self-signed").check()
    page.get_by_text("self-signed (its issuer").wait_for(state="hidden")
    # The form hides the key as soon as it is recognised.
    page.get_by_role("group", name="Private key").get_by_text("It belongs to the certificate.").wait_for()
    assert page.get_by_role("textbox", name="Private key").count() == 0
    page.get_by_role("button", name="Replace Private key").click()
    box(page, "Private key").fill(issue("another.example.com").key_pem.decode())
    page.get_by_text("does not belong to").wait_for()
    assert page.get_by_role("textbox", name="Private key").count() == 1
    box(page, "Private key").fill(issued.key_pem.decode())
    page.get_by_text("It belongs to the certificate.").wait_for()
    press(page, "Save")
    wait_until_saved(page, "bank")
    page.goto(f"{console.base}/ui/integrations/bank/edit")
    other = issue("client.example.com", start=datetime.now(UTC) - timedelta(days=1), life=timedelta(days=30))
    box(page, "Certificate").fill(other.pem.decode())
    page.get_by_text("Enter it again, because the certificate beside it has changed.").wait_for()


def test_certificate_that_cannot_be_fetched_has_a_message(console: Console) -> None:
    page = console.open("editor", "/add/integrations/mtls")
    box(page, "ID").fill("fetched")
    box(page, "Endpoint prefix").fill("https://bank.example")
    for label in ("certificate", "private key"):
        page.get_by_role("group", name=f"How to enter the {label}").get_by_label("From a URL").check()
        box(page, f"URL of the {label}").fill(f"https://127.0.0.1:{console.upstream.port}/{label[:3]}")
    box(page, "Path").fill("/me")
    press(page, "Test integration")
    page.locator("strong", has_text="It does not work: certificate: the server").wait_for()


def test_azure_for_graph_takes_three_clicks_and_three_values(console: Console) -> None:
    """Name, ID and scope are filled in, and the first empty field has the focus."""
    page = console.open("editor", "/integrations")
    page.get_by_role("link", name="Add integration").click()
    page.keyboard.type("Azure Graph")
    page.get_by_role("link", name="Microsoft Azure (Entra ID)").click()
    box(page, "Scope").wait_for()
    assert box(page, "Name").input_value() == "Microsoft Azure (Entra ID)"
    assert box(page, "ID").input_value() == "microsoft-azure-entra-id"
    assert box(page, "Scope").input_value() == "https://graph.microsoft.com/.default"
    page.keyboard.type("contoso.onmicrosoft.com")
    page.keyboard.press("Tab")
    assert box(page, "Tenant").input_value() == "contoso.onmicrosoft.com"
    box(page, "Client ID").fill("the-client")
    box(page, "Client secret").fill("canary-secret")
    assert box(page, "Path").input_value() == "/v1.0/organization"
    assert not box(page, "API host").is_visible()
    page.get_by_text("to https://graph.microsoft.com, https://login.microsoftonline.com").wait_for()
    press(page, "Save")
    wait_until_saved(page, "microsoft-azure-entra-id")
    document = stored_document(console, "microsoft-azure-entra-id")
    assert document["auth"]["tenant"] == "contoso.onmicrosoft.com"


def test_proposed_id_is_free_and_a_used_one_hides_no_other_error(console: Console) -> None:
    console.api("editor").post("/integrations", {"id": "microsoft-azure-entra-id", **basic(console.upstream.port)})
    page = console.open("editor", "/add/integrations/oauth2?provider=microsoft-entra")
    page.wait_for_function("() => [...document.querySelectorAll('input')].some((each) => each.value.endsWith('-id-2'))")
    box(page, "ID").fill("microsoft-azure-entra-id")
    press(page, "Save")
    page.get_by_text("The ID is in use. Check the fields that are marked.").wait_for()
    page.get_by_text("Another integration has this ID: choose another one.", exact=True).wait_for()
    assert page.get_by_text("Fill this in.").count() == 2
    page.get_by_text("Enter a GUID or a domain name").wait_for()
    # The form unfolds an optional value that is now required.
    box(page, "Scope").fill("https://vault.azure.net/.default")
    press(page, "Save")
    box(page, "API host").wait_for()
    page.get_by_text("microsoft-entra needs the host name of the API").wait_for()


def test_refused_draft_is_not_said_to_have_worked(console: Console) -> None:
    """Its content is not tested once it is saved either."""
    console.upstream.status = 401
    page = console.open("editor", "/add/integrations/headers")
    box(page, "ID").fill("refused")
    box(page, "Endpoint prefix").fill(console.upstream.url)
    box(page, "Value").last.fill("canary")
    box(page, "Path").fill("/me")
    press(page, "Test integration")
    page.get_by_text("The provider refused this credential: check it").wait_for()
    assert page.get_by_text("Most likely the secret was changed").count() == 0
    press(page, "Save")
    wait_until_saved(page, "refused")
    page.get_by_text("Not used yet.").wait_for()


def test_missing_secret_is_marked_after_save_and_broken_text_is_not_saved(console: Console) -> None:
    console.api("editor").post(
        "/integrations", {"id": "marked", "test": {"path": "/x"}, **basic(console.upstream.port)}
    )
    page = console.open("editor", "/integrations/marked/edit")
    page.get_by_text("The credential travels in the clear.").wait_for()
    press(page, "Replace User name")
    press(page, "Replace Password")
    # Waiting for each response ensures that its errors are drawn.
    for text in ("canary", "canary-user"):
        with page.expect_response("**/drafts/integration/preview"):
            box(page, "User name").fill(text)
    assert page.get_by_text("must not be empty").count() == 0
    box(page, "Password").fill("canary-password")
    press(page, "Test integration")
    page.locator("strong", has_text="It works: the response was 200").wait_for()
    page.get_by_text("This is not saved yet.").wait_for()
    page.get_by_role("link", name="Advanced").first.click()
    page.get_by_text("A secret that you have typed can be read here until it is saved.").wait_for()
    page.get_by_label("Document in YAML").fill("auth: [")
    press(page, "Save")
    page.get_by_text("Not saved. Correct the errors below.").wait_for()
    assert page.get_by_role("dialog").count() == 0


def test_advanced_editor_has_the_typed_values_and_lines_of_errors(console: Console) -> None:
    """A form can switch to Advanced at any time. A changed text is saved or discarded before the form returns."""
    page = console.open("editor", "/add/integrations/responsys")
    page.get_by_text("Use a user for Sidekey alone").wait_for()
    box(page, "ID").fill("mails")
    box(page, "Login URL").fill("https://login2.responsys.net")
    box(page, "User name").fill("svc")
    box(page, "Password").fill("canary: 'typed' here")
    page.get_by_role("link", name="Advanced").click()
    text = page.get_by_label("Document in YAML")
    assert """value: "canary: 'typed' here\"""" in text.input_value()
    text.fill(text.input_value().replace("login2.responsys.net", "login2.responsys.net/a path"))
    press(page, "Line 4")
    page.get_by_role("link", name="Form", exact=True).click()
    banner = page.get_by_role("alert").filter(has_text="Save or discard this text")
    expect(banner).to_have_text("Save or discard this text to go back to the form. Discard")
    press(page, "Discard")
    assert box(page, "Password").input_value() == "canary: 'typed' here"
    assert box(page, "Login URL").input_value() == "https://login2.responsys.net"
    press(page, "Save")
    wait_until_saved(page, "mails")
    page.goto(f"{console.base}/ui/integrations/mails/edit?tab=advanced")
    text = page.get_by_label("Document in YAML")
    text.fill(text.input_value() + "description: Newsletters\n")
    press(page, "Save")
    assert "+ description: Newsletters" in page.get_by_role("dialog").inner_text()
    press(page, "Save these changes")
    wait_until_saved(page, "mails")
    assert stored_document(console, "mails")["description"] == "Newsletters"


def test_second_editor_of_a_change_sees_the_difference_and_chooses(console: Console) -> None:
    api = console.api("admin")
    api.post("/integrations", {"id": "both", **basic(console.upstream.port), "description": "first"})
    page = console.open("editor", "/integrations/both/edit")
    box(page, "Path").fill("/mine")
    api.patch("/integrations/both", {"title": "Theirs", "test": {"path": "/theirs"}}, '"1"')
    press(page, "Save")
    page.get_by_text("Not saved: admin-of-file saved this").wait_for()
    lines = page.get_by_role("alert").locator("pre").inner_text().splitlines()
    assert [line for line in lines if line.startswith(("-", "+"))] == ["-   path: /theirs", "+   path: /mine"]
    assert_accessible(page)
    press(page, "Use mine")
    assert box(page, "Name").input_value() == "Theirs"
    press(page, "Save")
    wait_until_saved(page, "both")
    document = stored_document(console, "both")
    assert (document["title"], document["test"]["path"], document["version"]) == ("Theirs", "/mine", 3)

    page.goto(f"{console.base}/ui/integrations/both/edit?tab=advanced")
    text = page.get_by_label("Document in YAML")
    text.fill(text.input_value().replace("first", "mine"))
    api.patch("/integrations/both", {"description": "theirs"}, '"3"')
    press(page, "Save")
    press(page, "Save these changes")
    page.get_by_role("alert").get_by_text("- description: theirs").wait_for()
    press(page, "Use mine")
    press(page, "Save")
    assert "- description: theirs" in page.get_by_role("dialog").inner_text()
    press(page, "Save these changes")
    wait_until_saved(page, "both")
    assert stored_document(console, "both")["description"] == "mine"


def test_large_numbers_keep_their_digits(console: Console) -> None:
    body = {"ratio": 1.0, "many": 123456789012345678, "scope": "x"}
    auth = {"type": "oauth2", "token_endpoint": "https://a.example/token", "client_id": "c"}
    document = {
        "auth": {**auth, "client_secret": {"value": "canary"}, "token_request": {"format": "json", "body": body}}
    }
    console.api("admin").post("/integrations", {"id": "exact", **document})
    page = console.open("editor", "/integrations/exact/edit")
    box(page, "Value").last.fill("y")
    page.get_by_text("Enter it again, because the field scope has changed.").wait_for()
    press(page, "Replace Client secret")
    box(page, "Client secret").fill("canary")
    press(page, "Save")
    wait_until_saved(page, "exact")
    assert '"ratio":1.0,"many":123456789012345678,"scope":"y"' in json.dumps(
        stored_document(console, "exact")["auth"]["token_request"]["body"], separators=(",", ":")
    )
    page.goto(f"{console.base}/ui/integrations/exact/edit?tab=advanced")
    assert "ratio: 1.0\n" in page.get_by_label("Document in YAML").input_value()


def log_in_again(page: Any, role: Role) -> None:
    """Enter a token in the dialog that appears after the end of a session."""
    page.get_by_text("Log in again: what you typed is still here.").wait_for()
    box(page, "Token").fill(TOKENS[role])
    page.get_by_role("dialog").get_by_role("button", name="Log in", exact=True).click()


def test_form_survives_the_end_of_a_session_and_an_unavailable_store(console: Console) -> None:
    page = console.open("editor", "/add/integrations/basic")
    box(page, "ID").fill("again")
    box(page, "Endpoint prefix").fill(console.upstream.url)
    box(page, "User name").fill("svc")
    box(page, "Password").fill("canary")
    page.get_by_text("Where the credential goes").wait_for()
    bodies = {"POST /api/v1/integrations": problem(503, "store_unavailable")}
    console.fixture(page, bodies)
    press(page, "Save")
    page.get_by_text("Detail of store_unavailable.").wait_for()
    page.get_by_text("The database cannot be reached.").wait_for()
    bodies.clear()
    page.context.clear_cookies()
    press(page, "Save")
    log_in_again(page, "editor")
    wait_until_saved(page, "again")
    expect(page.get_by_text("The database cannot be reached.")).to_have_count(0)
    assert stored_document(console, "again")["auth"]["password"]["set"] is True


def test_log_in_of_another_person_discards_the_form(console: Console) -> None:
    page = console.open("editor", "/add/integrations/basic")
    box(page, "ID").fill("others")
    box(page, "Endpoint prefix").fill(console.upstream.url)
    box(page, "User name").fill("svc")
    box(page, "Password").fill("canary-of-another-person")
    page.get_by_text("Where the credential goes").wait_for()
    page.context.clear_cookies()
    press(page, "Save")
    log_in_again(page, "admin")
    page.get_by_text("Somebody else has logged in, so what was typed here is gone.").wait_for()
    box(page, "ID").wait_for()
    assert (box(page, "ID").input_value(), box(page, "Password").input_value()) == ("", "")
    assert console.api("editor").request("GET", "/integrations/others").status == 404


def test_sticky_button_covers_no_focused_field(console: Console) -> None:
    console.api("editor").post("/integrations", {"id": "barred", **basic(console.upstream.port)})
    page = console.open("editor", "/integrations/barred/edit", width=390)
    page.get_by_text("Where the credential goes").wait_for()
    save = page.get_by_role("button", name="Save")
    # The lowest 64 pixels have only the button.
    assert page.evaluate("document.elementFromPoint(innerWidth / 2, innerHeight - 64).closest('.goes')") is None
    field = page.locator("input:focus, select:focus, textarea:focus")
    reached = 0
    while not save.evaluate("button => button === document.activeElement"):
        page.keyboard.press("Tab")
        if field.count():
            box = field.bounding_box()
            assert box["y"] + box["height"] <= save.bounding_box()["y"]
            reached += 1
    assert reached >= 3


def test_hostile_texts_are_shown_as_text(console: Console) -> None:
    """The texts are in names, values and secrets of a document by another person."""
    page = console.browser("editor")
    bodies: dict[str, Any] = {}
    console.fixture(page, bodies)
    for text in HOSTILE:
        bodies["GET /api/v1/integrations/hostile"] = {
            "id": "hostile", "title": text, "source": "store", "version": 1, "status": "ok", "problem": None,
            "auth": {
                "type": "oauth2", "token_endpoint": text, "client_id": text,
                "client_secret": {"set": True, "id": "s_1", "set_at": "2026-05-03T10:00:00Z", "set_by": text},
                "token_request": {"body": {text: text}},
                text: text,
            },
        }  # fmt: skip
        page.goto(f"{console.base}/ui/integrations/hostile/edit")
        expect(box(page, "Client ID")).to_have_value(text)
        page.get_by_text("1 more setting under").wait_for()
        page.get_by_role("link", name="Advanced").first.click()
        page.get_by_label("Document in YAML").wait_for()
        page.get_by_text("Errors", exact=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_document_without_a_form_opens_as_yaml(console: Console) -> None:
    auth = {"type": "signature", "scheme": "stripe", "secret": [{"value": "canary-new"}, {"value": "canary-old"}]}
    console.api("admin").post("/integrations", {"id": "signed", "endpoint_prefix": "https://a.example", "auth": auth})
    page = console.open("editor", "/integrations/signed/edit")
    text = page.get_by_label("Document in YAML")
    assert "scheme: stripe" in text.input_value()
    text.fill(text.input_value().replace("a.example", "b.example"))
    press(page, "Save")
    press(page, "Save these changes")
    page.get_by_role("listitem").filter(has_text=re.compile(r"Line \d /auth/secret/0 must be sent again")).wait_for()


def test_jwt_is_signed_with_a_secret_or_a_key(console: Console) -> None:
    page = console.open("editor", "/add/integrations/jwt")
    box(page, "Private key").fill("not for this algorithm")
    box(page, "Algorithm").select_option("HS256")
    expect(box(page, "Private key")).to_have_count(0)
    box(page, "ID").fill("shared")
    box(page, "Endpoint prefix").fill("https://a.example")
    box(page, "Secret").fill("canary-of-32-bytes-at-the-very-least")
    press(page, "Save")
    wait_until_saved(page, "shared")
    auth = stored_document(console, "shared")["auth"]
    assert (auth.keys(), auth["algorithm"]) == ({"type", "algorithm", "secret"}, "HS256")
    page.goto(f"{console.base}/ui/integrations/shared/edit")
    box(page, "Algorithm").select_option("RS256")
    box(page, "Private key").wait_for()
    expect(page.get_by_role("group", name="Secret")).to_have_count(0)
    box(page, "Algorithm").select_option("HS256")
    page.get_by_role("group", name="Secret").get_by_text("Set by editor-of-file").wait_for()


def test_copy_has_everything_but_the_secrets(console: Console) -> None:
    document = {"id": "one", "title": "One", **basic(console.upstream.port, "canary"), "tags": ["ads"]}
    console.api("admin").post("/integrations", document)
    page = console.open("editor", "/add/integrations/basic?from=one")
    assert box(page, "Name").input_value() == "One (copy)"
    assert box(page, "ID").input_value() == "one-copy"
    assert box(page, "Endpoint prefix").input_value() == document["endpoint_prefix"]
    box(page, "User name").fill("svc")
    box(page, "Password").fill("canary")
    press(page, "Save")
    wait_until_saved(page, "one-copy")
    assert stored_document(console, "one-copy")["tags"] == ["ads"]
