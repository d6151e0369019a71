"""admin/console/form/document.py: what is shown is what is sent back, for a browser without script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.form.document import document_of
from sidekey.admin.console.form.entries import entries_of, form_of, sent_document
from sidekey.admin.console.form.forms import Form, form_for
from sidekey.admin.console.render import renderer
from support.pages import Form as Sent
from support.pages import Seen

READ = {"set": True, "updated_at": "2026-11-03T10:00:00Z", "updated_by": "ann"}
CERTIFICATE = {"set": True, "subject": "CN=me", "issuer": "CN=ca", "not_after": "2027-01-01T00:00:00Z"}

DOCUMENTS: Mapping[str, dict[str, Any]] = {
    "signature beside": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {"type": "basic", "username": READ, "password": READ},
        "signature": {
            "scheme": "custom",
            "secret": READ,
            "signed": "{timestamp}\n{body}",
            "headers": {"X-Signature": "t={timestamp}, {signatures}"},
            "each": "v1={signature}",
            "join": " ",
        },
    },
    "message": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {
            "type": "signature",
            "scheme": "rfc9421",
            "algorithm": "ed25519",
            "key": READ,
            "components": ["@method", "content-digest"],
            "expires": "5m",
            "nonce": True,
        },
    },
    "basic": {
        "description": 'for <b>people</b> & "others"',
        "tags": ["crm", "eu"],
        "endpoint_prefix": ["https://a.example/v1", "https://b.example"],
        "test": {"method": "HEAD", "path": "/me?x=1"},
        "limits": {"in_flight": 7},
        "auth": {"type": "basic", "username": READ, "password": READ},
    },
    "headers": {
        "endpoint_prefix": ["https://a.example"],
        "methods": ["GET", "POST"],
        "auth": {
            "type": "headers",
            "headers": {
                "X-Public": "text with 'quotes'",
                "X-Key": {"secret": READ},
                "Authorization": {"prefix": "Bearer ", "secret": READ},
            },
        },
    },
    "oauth2": {
        "allow_other_domains": True,
        "allowed_domains": ["https://api.example.com", "https://*.example.org"],
        "redact_response": True,
        "trusted_ca": "system",
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://login.example.com/token",
            "client_id": "id",
            "client_secret": READ,
            "client_authentication": "body",
            "grant": "refresh_token",
            "refresh_token_rotates": False,
            "token_request": {"body": {"scope": "a b", "n": 5, "on": True, "key": READ}},
            "token_placement": {"in": "header", "name": "X-Token"},
        },
    },
    "signed": {
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://login.example.com/token",
            "client_id": "id",
            "client_authentication": "private_key_jwt",
            "assertion": {"private_key": READ, "certificate": CERTIFICATE, "key_id": "k"},
        },
    },
    "provider": {
        "auth": {
            "type": "oauth2",
            "provider": "commercetools",
            "region": "europe-west1.gcp",
            "client_id": "id",
            "client_secret": READ,
        },
    },
    "mtls": {
        "endpoint_prefix": ["https://bank.example"],
        "trusted_ca": CERTIFICATE,
        "auth": {"type": "mtls", "certificate": CERTIFICATE, "private_key": READ, "allow_private_ca": True},
    },
    "written otherwise": {
        "description": " with a line\nand ends ",
        "tags": [],
        "endpoint_prefix": "https://a.example/v1",
        "allow_other_domains": False,
        "later": {"what": "this version has no field for"},
        "auth": {
            "type": "oauth2",
            "later": READ,
            "token_endpoint": "https://login.example.com/token",
            "grant": "client_credentials",
            "client_id": "id",
            "client_secret": READ,
            "token_request": {"method": "POST", "later": 1, "body": {"n": 0.5, "text": "5", "on": "true", "none": ""}},
            "token_placement": {"in": "header", "scheme": ""},
        },
    },
    "a word": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {"type": "oauth2", "client_id": "id", "client_secret": READ, "token_placement": "query"},
    },
    "by url": {
        "endpoint_prefix": ["https://bank.example"],
        "auth": {"type": "mtls", "certificate": {"url": READ}, "private_key": {"url": READ}},
    },
    "prefixes": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {"type": "headers", "headers": {"X-A": {"secret": READ, "prefix": ""}, "X-B": READ, "X-C": ""}},
    },
    "signature": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {
            "type": "signature",
            "scheme": "custom",
            "secret": [{**READ, "row": "r_1"}, READ, {**READ, "row": "r_2"}],
            "signed": "{timestamp}.{body}",
            "headers": {"X-Signature": "t={timestamp},v1={signatures}"},
        },
    },
    "session": {
        "signature": {"scheme": "rfc9421", "algorithm": "ed25519", "key": READ, "components": ["@method"]},
        "add": {"headers": {"X-Tenant": "acme"}, "body": {"key": {"secret": READ}, "n": 5}},
        "auth": {
            "type": "session",
            "login": {
                "url": "https://ws.example.com/login",
                "body": {
                    "user": {"name": "svc", "key": READ, "a.b": {"1": "x", "none": {}}},
                    "scopes": ["a", {**READ, "row": "r_1"}, [0.5, True], []],
                },
                "auth": {"type": "jwt", "algorithm": "ES256", "private_key": READ, "claims": {"iss": "t"}},
            },
            "token": {"from": "data.token", "life": "20m"},
            "rejected": [401, 419],
        },
    },
    "one secret": {
        "endpoint_prefix": ["https://a.example"],
        "auth": {"type": "signature", "scheme": "github", "secret": READ},
    },
    "responsys": {
        "auth": {"type": "responsys", "login_endpoint": "https://l.example/x", "username": READ, "password": READ},
    },
}


def page_of(form: Form, document: Mapping[str, Any]) -> Sent:
    """The form as a browser reads it from the page."""
    entries = entries_of(form, document, 1)
    values = {
        "it": {"id": "x", "description": "", "tags": [], "status": "ok", "source": "store", "base": "", "kind": ""},
        "standing": {"mood": "good", "word": "OK", "reason": ""},
        "entries": entries,
        "may_edit": True,
        **dict.fromkeys(
            ("problem", "tested", "seen", "explained", "refused", "activity", "operator", "done", "asked", "signs")
        ),
        **dict.fromkeys(("kind", "url", "form_token", "store_down", "path"), ""),
        **dict.fromkeys(("rest", "calls", "headers"), ()),
        "version": 1,
    }
    body = renderer().page("integration.html", values).decode()
    return Seen(200, {}, body, "").form("/integrations/x")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_shown_and_sent_back_changes_nothing(name: str) -> None:
    """Whatever it holds: secrets and certificates are kept, texts are as they were, defaults stay left out."""
    document = DOCUMENTS[name]
    form = form_of(document)
    assert form is not None
    sent = {key: browser_sends(key, text) for key, text in page_of(form, document).fields.items()}
    assert sent_document(form, sent, document) == document


def browser_sends(name: str, text: str) -> str:
    """What is left of a text in an input of one line (HTML, "value sanitization algorithm")."""
    return text.replace("\n", "") if name == "/description" else text.replace("\n", "\r\n")


@pytest.mark.parametrize("source", ["inline", "text"])
def test_a_key_where_a_certificate_belongs_is_in_no_page(source: str) -> None:
    """People paste files that have both."""
    pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\ncanary\n"
    auth = {"type": "mtls", "certificate": {"inline": pem} if source == "inline" else pem}
    form = form_of({"auth": auth})
    assert form is not None
    assert "canary" not in str(page_of(form, {"auth": auth}).fields)


def test_a_stored_secret_is_kept_replaced_or_removed() -> None:
    """As it is said; without any word it is not there."""
    fields = [each for each in form_for("oauth2").fields if each.key == "client_secret"]
    name = "/auth/client_secret"
    former = {"client_secret": READ}
    assert document_of(fields, {f"{name}#do": "keep", name: ""}, former) == {"client_secret": READ}
    assert document_of(fields, {f"{name}#do": "replace", name: "new"}, former) == {"client_secret": {"value": "new"}}
    assert document_of(fields, {f"{name}#do": "remove", name: "x"}, former) == {}
    assert document_of(fields, {name: ""}, former) == {}
    assert document_of(fields, {f"{name}#do": "keep", name: ""}, {}) == {}


def test_a_stored_secret_in_a_row_is_not_lost_by_what_is_chosen_beside_it() -> None:
    """Public text in its place must be typed."""
    fields = [each for each in form_for("headers").fields if each.key == "headers"]
    name, former = "/auth/headers#0", {"headers": {"X-Key": {"secret": READ}}}
    sent = {f"{name}#name": "X-Key", f"{name}#kind": "text", f"{name}#value": "", f"{name}#value#do": "keep"}
    assert document_of(fields, sent, former) == former
    replaced = {**sent, f"{name}#value": "public", f"{name}#value#do": "replace"}
    assert document_of(fields, replaced, former) == {"headers": {"X-Key": "public"}}


@pytest.mark.parametrize(
    "document",
    [
        {"auth": {"type": ["basic"]}},
        {"auth": {"type": "oauth2", "provider": {}}},
        {"auth": "basic"},
        {},
        {"auth": {"type": "basic", "username": 5, "password": []}, "tags": 5, "test": 1, "methods": {}, "limits": []},
        {"auth": {"type": "headers", "headers": [1]}, "trusted_ca": 7, "allow_other_domains": "x"},
    ],
)
def test_what_another_version_has_stored_has_a_page(document: dict[str, Any]) -> None:
    """With a form where one can show it, and without one else."""
    form = form_of(document)
    assert form is None or page_of(form, document).names


def test_what_counts_only_with_another_choice_goes_with_it() -> None:
    """A stored secret included: the page hides its field, so that nobody could remove it there."""
    auth = {"type": "oauth2", "grant": "refresh_token", "refresh_token": READ, "refresh_token_rotates": False}
    form = form_of({"auth": auth})
    assert form is not None
    sent = page_of(form, {"auth": auth}).fields
    assert sent_document(form, sent, {"auth": auth})["auth"] == auth
    changed = sent_document(form, {**sent, "/auth/grant": "client_credentials"}, {"auth": auth})
    assert changed["auth"] == {"type": "oauth2", "grant": "client_credentials"}


def test_what_counts_only_with_another_scheme_goes_with_it() -> None:
    """Of a signature beside the credential too; and without a scheme there is none."""
    document = DOCUMENTS["signature beside"]
    form = form_of(document)
    assert form is not None
    sent = page_of(form, document).fields
    assert sent_document(form, sent, document) == document
    changed = sent_document(form, {**sent, "/signature/scheme": "github"}, document)
    assert changed == {**document, "signature": {"scheme": "github", "secret": READ}}
    without = sent_document(form, {**sent, "/signature/scheme": ""}, document)
    assert without == {key: value for key, value in document.items() if key != "signature"}


def test_a_row_is_of_the_type_that_is_said() -> None:
    """What is no such value becomes nothing that is saved; however many rows there are, none is lost."""
    fields = [each for each in form_for("oauth2").fields if each.key == "assertion"]
    typed = {"number": ("5", "-0.5", "1e9", "x"), "flag": ("true", "false", "yes"), "text": ("5", "true")}
    rows = [(kind, value) for kind, values in typed.items() for value in values] + [("text", "more")] * 200
    sent: dict[str, str] = {}
    for number, (kind, value) in enumerate(rows):
        base = f"/auth/assertion/claims#{number}"
        sent |= {f"{base}#name": f"n{number}", f"{base}#kind": kind, f"{base}#value": value}
    claims = document_of(fields, sent, {})["assertion"]["claims"]
    assert list(claims.values()) == [5, -0.5, None, None, True, False, None, "5", "true", *["more"] * 200]


def test_pem_comes_pasted_or_by_a_url() -> None:
    """With the line breaks of a file."""
    fields = [each for each in form_for("mtls").first if each.widget == "pem"]
    sent = {
        "/auth/certificate": "-----BEGIN\r\nx\r\n",
        "/auth/certificate#source": "inline",
        "/auth/private_key": " https://k.example/key ",
        "/auth/private_key#source": "url",
    }
    assert document_of(fields, sent, {}) == {
        "certificate": {"inline": "-----BEGIN\nx\n"},
        "private_key": {"url": "https://k.example/key"},
    }


@given(st.dictionaries(st.from_regex(r"[A-Za-z-]{1,8}", fullmatch=True), st.text(max_size=20), min_size=1, max_size=4))
def test_rows_of_any_texts_are_what_was_typed(rows: dict[str, str]) -> None:
    """A name that is given twice counts once, as the last says."""
    fields = [each for each in form_for("headers").fields if each.key == "headers"]
    sent: dict[str, str] = {}
    for number, (name, value) in enumerate(rows.items()):
        base = f"/auth/headers#{number}"
        sent |= {f"{base}#name": name, f"{base}#kind": "text", f"{base}#value": value}
    assert document_of(fields, sent, {}) == {"headers": rows}


def test_a_file_counts_in_place_of_what_was_typed_or_kept() -> None:
    """Whatever is chosen beside it: nobody uploads what they do not mean."""
    fields = [each for each in form_for("mtls").first if each.widget == "pem"]
    sent = {
        "/auth/certificate#source": "url",
        "/auth/certificate#file": "-----BEGIN\r\nx\r\n",
        "/auth/private_key": "",
        "/auth/private_key#do": "keep",
        "/auth/private_key#file": "-----BEGIN\ny",
    }
    assert document_of(fields, sent, {"private_key": READ}) == {
        "certificate": {"inline": "-----BEGIN\nx\n"},
        "private_key": {"value": "-----BEGIN\ny\n"},
    }


def test_a_text_whose_spaces_count_keeps_them() -> None:
    """`Token ` before a token is another text than `Token`; of any other text the ends are dropped."""
    form = form_for("jwt")
    sent = {
        "/auth/algorithm": "HS256",
        "/auth/token_placement/in": "header",
        "/auth/token_placement/name": " X-Session ",
        "/auth/token_placement/prefix": "Token ",
    }
    placement = sent_document(form, sent, {})["auth"]["token_placement"]
    assert placement == {"in": "header", "name": "X-Session", "prefix": "Token "}
