"""admin/console/pages/saving.py: what comes of a form that is refused, or was overtaken."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import product
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from admin.conftest import Named
from admin.console.conftest import LogIn
from admin.console.pages.test_adding import made
from sidekey.admin.console.form.fields import Field
from sidekey.admin.console.form.forms import form_for
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from support.api import TOKENS, Api, Running
from support.certificates import Issued, issue


def replaced(pointer: str, text: str) -> dict[str, str]:
    """A secret that is typed in place of the one that is stored."""
    return {pointer: text, f"{pointer}#do": "replace"}


def test_a_refused_form_says_all_beside_its_fields_and_shows_no_secret(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """What is public stays; user name and password are secret, and must be typed again."""
    pages, name = log_in("editor"), named("refused")
    seen = made(pages, running, name, **{"/auth/username": "a:b", "/endpoint_prefix": "nonsense"})
    assert (seen.status, seen.path) == (200, "/add")
    assert "colon" in seen.text
    assert "canary" not in seen.body
    form = seen.form("/add")
    assert (form.fields["/id"], form.fields["/auth/username"], form.fields["/auth/password"]) == (name, "", "")
    assert "a:b" not in seen.body
    assert pages.ask("GET", f"/integrations/{name}").status == 404


def test_a_script_gets_what_is_wrong_and_no_page(log_in: LogIn) -> None:
    """So that what was typed stays where it is."""
    pages = log_in("editor")
    form = pages.get("/add?kind=basic").form("/add")
    answer = pages.ask("POST", "/add", {**form.fields, "/auth/password": "canary"}, {"Accept": "application/json"})
    said = json.loads(answer.body)
    assert (answer.status, said["code"]) == (200, "invalid")
    assert "/id" in {pointer for pointer, _ in said["errors"]}
    assert "canary" not in answer.body


def test_where_the_credential_goes_is_changed_only_with_the_secret(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """In the words of a person, beside the secret; nothing is saved before."""
    pages, name = log_in("editor"), named("moved")
    form = made(pages, running, name).form(f"/integrations/{name}")
    elsewhere = f"http://127.0.0.1:{running.upstream}/elsewhere"
    seen = pages.send(form, {"/endpoint_prefix": elsewhere})
    assert "You changed where the credential goes" in seen.text
    assert "Enter it again for where it goes now" in seen.text
    again = seen.form(f"/integrations/{name}")
    assert again.fields["/endpoint_prefix"] == elsewhere
    seen = pages.send(again, {**replaced("/auth/username", "svc"), **replaced("/auth/password", "another")})
    assert "Saved, and in use." in seen.text


def test_a_lost_update_says_who_changed_what_and_leaves_the_choice(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """Save again, or load the page."""
    pages, name = log_in("editor"), named("shared")
    form = made(pages, running, name).form(f"/integrations/{name}")
    admin = Api(running.child.admin_port, TOKENS["admin"])
    assert admin.ask("PATCH", f"/integrations/{name}", {"description": "theirs"}, match='"1"').status == 200
    seen = pages.send(form, {"/description": "mine"})
    assert "admin-of-file changed Description" in seen.text
    assert api.get(f"/integrations/{name}")["description"] == "theirs"
    again = seen.form(f"/integrations/{name}")
    assert again.fields["/description"] == "mine"
    assert "Saved" in pages.send(again).text
    assert api.get(f"/integrations/{name}")["description"] == "mine"


def test_a_script_saves_again_in_place_of_what_was_faster(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """It is told the version that the next attempt is for, and by that alone the next one is saved."""
    pages, name = log_in("editor"), named("overtaken")
    form = made(pages, running, name).form(f"/integrations/{name}")
    assert api.ask("PATCH", f"/integrations/{name}", {"description": "theirs"}, match='"1"').status == 200
    values = {**form.fields, "/description": "mine"}
    script = {"Accept": "application/json"}
    said = json.loads(pages.ask("POST", form.action, values, script).body)
    assert (said["code"], said["version"]) == ("changed", 2)
    again = {**values, "version": str(said["version"])}
    assert json.loads(pages.ask("POST", form.action, again, script).body) == {
        "location": f"/integrations/{name}?done=saved"
    }
    assert api.get(f"/integrations/{name}")["description"] == "mine"


def certificate(days: float = 60, issuer: Issued | None = None) -> Issued:
    """One of now that ends in so many days."""
    return issue(issuer=issuer, start=datetime.now(UTC) - timedelta(days=30), life=timedelta(days=30 + days))


def test_without_script_a_check_says_what_saving_would_do_and_saves_nothing(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """Where the credential goes, which secret must be entered again; and no secret is in the page."""
    pages, name = log_in("editor"), named("checked")
    form = made(pages, running, name).form(f"/integrations/{name}")
    seen = pages.send(form, {"then": "check", "/description": "mine"})
    assert "and nowhere else." in seen.text
    assert seen.form(f"/integrations/{name}").fields["/description"] == "mine"
    seen = pages.send(form, {"then": "check", "/endpoint_prefix": "https://elsewhere.example"})
    assert "Enter again: Password, Username; or put Endpoint prefix back." in seen.text
    again = seen.form(f"/integrations/{name}")
    typed = {"then": "check", **replaced("/auth/username", "svc"), **replaced("/auth/password", "canary-pw")}
    seen = pages.send(again, typed)
    assert "The credential goes to https://elsewhere.example, and nowhere else." in seen.text
    assert "canary" not in seen.body
    assert api.get(f"/integrations/{name}")["version"] == 1
    seen = pages.send(pages.get("/add?kind=basic").form("/add"), {"then": "check", "/id": name})
    assert "is the ID of another" in seen.text
    assert "this key is missing" in seen.text


def test_a_certificate_is_uploaded_without_script_and_told_before_it_is_saved(log_in: LogIn, named: Named) -> None:
    """Each problem in its own words; the page has what is public of it, and no key."""
    pages, name = log_in("editor"), named("uploaded")
    good, other = certificate(12.5), certificate()
    form = pages.get("/add?kind=mtls").form("/add")
    values = {"/id": name, "/endpoint_prefix": "https://bank.example/v1", "/auth/allow_private_ca": "true"}
    key = {"/auth/private_key#file": good.key_pem}
    seen = pages.send(form, {**values, "then": "check"}, {"/auth/certificate#file": good.pem, **key})
    assert "12 days left" in seen.text
    assert "It is the key of CN=client.example." in seen.text
    assert "PRIVATE KEY-" not in seen.body
    again = seen.form("/add")
    assert again.fields["/auth/certificate"].encode() == good.pem
    assert again.fields["/auth/private_key"] == ""
    cases = [
        (other.key_pem, "does not belong to the certificate"),
        (
            good.key_as(passphrase="x"),
            "This private key is encrypted: write its passphrase as \u201cKey passphrase\u201d",
        ),
        (b"\x30\x82\x00\x20\x02\x01\x03\x30" + bytes(28), "This file is PKCS#12"),
        (good.certificate.public_bytes(Encoding.DER), "This file is a certificate in DER"),
        (b"canary-of-a-file", "This file is not PEM"),
    ]
    for content, words in cases:
        # Also where it is to be saved: nothing is in the place of a file that is none.
        for then in ("check", ""):
            seen = pages.send(again, {**values, "then": then}, {"/auth/private_key#file": content})
            assert words.lower() in unescape(seen.text).lower(), (words, then)
            assert "PRIVATE KEY-" not in seen.body
            assert "canary" not in seen.body
    assert pages.ask("GET", f"/integrations/{name}").status == 404
    seen = pages.send(again, values, key)
    assert seen.path == f"/integrations/{name}?done=saved"
    assert "PRIVATE KEY-" not in seen.body


def test_a_script_is_told_what_saving_would_do_and_nothing_of_a_secret(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """By which it says at once what is to be entered again, and which field can be put back."""
    pages, name = log_in("editor"), named("edited")
    form = made(pages, running, name).form(f"/integrations/{name}")
    script = {"Accept": "application/json"}
    values = {**form.fields, "/endpoint_prefix": "https://elsewhere.example", "then": "check"}
    answer = pages.ask("POST", form.action, values, script, {})
    said = json.loads(answer.body)
    assert (said["again"], said["moving"]) == (["/auth/password", "/auth/username"], ["/endpoint_prefix"])
    typed = {**values, **replaced("/auth/username", "svc"), **replaced("/auth/password", "canary-pw")}
    answer = pages.ask("POST", form.action, typed, script)
    assert json.loads(answer.body)["again"] == []
    assert "canary" not in answer.body
    assert log_in("viewer").ask("POST", form.action, values, script).status == 403


WAYS: Final = [*product(("", "test", "check"), ({}, {"Accept": "application/json"}), (None, {}))]
"""Every way to send a form: by which button, from a script or not, with files or without."""


def test_a_canary_of_each_kind_is_in_no_page_of_a_check_or_a_refusal(log_in: LogIn, running: Running) -> None:
    """Whatever is wrong, and nowhere in the log, by every way.

    Of forms with the same secrets the first is sent: by every way the first of a kind, and by one way each other.
    """
    pages = log_in("editor")
    canary = "canary-of-every-field"
    kinds_sent: set[str] = set()
    secrets_sent: set[tuple[str, ...]] = set()
    for kind, provider in [*product(KINDS, [""]), *((profiles.profile(each).kind, each) for each in profiles.names())]:
        pointers = [each.pointer for each in secrets_in(form_for(kind, provider).fields)]
        assert pointers, (kind, provider)
        secrets = (kind, *sorted(pointers))
        if secrets in secrets_sent:
            continue
        form = pages.get(f"/add?provider={provider}" if provider else f"/add?kind={kind}").form("/add")
        assert (form.fields["kind"], form.fields["provider"]) == (kind, provider)
        rows = {name: canary for name in form.names if name.endswith("#0#value")}
        types = {name.replace("#value", "#kind"): "secret" for name in rows}
        names = {name.replace("#value", "#name"): "x" for name in rows}
        types = {name: each for name, each in types.items() if name in form.names}
        for then, headers, files in WAYS if kind not in kinds_sent else WAYS[:1]:
            sent = {**form.fields, **dict.fromkeys(pointers, canary), **rows, **types, **names, "then": then}
            answer = pages.ask("POST", "/add", sent, headers, files)
            assert answer.status == 200
            assert canary not in answer.body, (kind, provider, then)
        kinds_sent.add(kind)
        secrets_sent.add(secrets)
    assert not [line for line in running.child.lines if canary in line]


def secrets_in(fields: Iterable[Field]) -> Iterator[Field]:
    for field in fields:
        for each in field.walk():
            if each.widget == "secret" or (each.widget == "pem" and "secret" in each.sources):
                yield each
