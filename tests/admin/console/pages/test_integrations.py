"""admin/console/pages/integrations.py: the list, and one integration with what can be done with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from admin.conftest import Named
from admin.console.conftest import LogIn
from admin.console.pages.test_adding import CALLER
from sidekey.runtime.standing import STATUSES
from support.api import Api, Running, basic
from support.ask import get
from support.certificates import issue
from support.stored import CANARY


def test_one_is_tested_explained_and_deleted(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    """The test's result is on the page; an explanation names no secret."""
    pages, name = log_in("editor"), named("tried")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    path = f"/integrations/{name}"
    assert "200 in" in pages.send(pages.get(path).form(f"{path}/test")).text
    form = pages.get(path).form(f"{path}/explain")
    assert "Allowed" in pages.send(form, {"url": "/whoami"}).text
    assert "Denied" in pages.send(form, {"url": "https://elsewhere.example/"}).text
    assert "ASCII" in pages.send(form, {"url": "/\u202e"}).text
    assert pages.send(pages.get(path).form(f"{path}/delete")).path == "/?done=deleted"
    assert pages.ask("GET", path).status == 404


def test_what_is_signed_of_a_described_request_is_shown(
    log_in: LogIn, running: Running, api: Api, named: Named
) -> None:
    """What was typed stays; a line that is no header is told; where nothing is signed, nothing is asked for."""
    name = named("signed")
    path = f"/integrations/{name}"
    signature = {"scheme": "github", "secret": {"value": f"{CANARY}-of-the-signing-key"}}
    api.make("/integrations", {"id": name, **basic(running.upstream), "signature": signature})
    pages = log_in("viewer")
    form = pages.get(path).form(f"{path}/explain")
    typed = {"url": "/x", "method": "POST", "headers": "X-Own: 1\r\n\r\n", "body": "<a>\r\nb", "at": "1700000000"}
    shown = pages.send(form, typed).body
    assert r"<dt>Signed</dt><dd><code><bdi>&lt;a&gt;\nb</bdi></code></dd>" in shown
    assert 'value="POST"' in shown
    assert "sha256=" not in shown
    assert CANARY not in shown
    assert "/headers/0 must be a list" in pages.send(form, {"url": "/x", "headers": "nothing"}).text
    assert 'name="headers"' not in pages.get("/integrations/of-a-file").body


def test_a_failing_integration_is_told_with_its_last_errors(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """In the list and on its page, until a request succeeds: here, with another secret."""
    pages, name = log_in("editor"), named("failing")
    api.make("/integrations", {"id": name, **basic(1)})
    assert "not recorded" in pages.get(f"/?q={name}").text
    for _ in range(3):
        assert get(running.child.proxy_port, f"/i/{name}/x", CALLER).status == 502
    assert "Failing since" in pages.get(f"/?q={name}&status=failing").text
    seen = pages.get(f"/integrations/{name}")
    assert "3 in 24 hours, 3 failed" in seen.text
    assert seen.text.count(": 502, upstream_unreachable") == 3
    assert api.ask("PUT", f"/integrations/{name}", basic(running.upstream), match='"1"').status == 200
    # What failed was not what it is now.
    assert "Failing since" not in pages.get(f"/?q={name}").text
    assert get(running.child.proxy_port, f"/i/{name}/whoami", CALLER).status == 200
    assert "Failing since" not in pages.get(f"/?q={name}").text
    assert api.get(f"/integrations/{name}")["status"] == "ok"


def test_one_of_a_file_is_shown_and_cannot_be_changed(log_in: LogIn) -> None:
    pages = log_in("editor")
    seen = pages.get("/integrations/of-a-file")
    assert "A config file: it can be changed there." in seen.text
    assert "a-secret-of-a-file" not in seen.body
    token = seen.form("/logout").fields["form_token"]
    assert "<textarea" not in seen.body.partition('id="explain"')[0]
    assert pages.ask("POST", "/integrations/of-a-file/delete", {"form_token": token, "version": "1"}).status != 303


NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eevil\u2066",
    "x" * 2000,
    "{{ 1234567 * 7654321 }}",
    "'`&",
]


@pytest.mark.parametrize("text", NASTY)
def test_texts_of_others_are_inert(log_in: LogIn, running: Running, named: Named, api: Api, text: str) -> None:
    """Markup, quotes, directions and templates, wherever a page shows them."""
    pages, name = log_in("editor"), named("nasty")
    api.make("/integrations", {"id": name, "description": text, "tags": [text[:100]], **basic(running.upstream)})
    for path in (f"/?q={name}", f"/integrations/{name}"):
        body = pages.get(path).body
        assert "<script>alert" not in body
        assert "<img" not in body
        assert str(1234567 * 7654321) not in body
        assert f"<bdi>{_escaped(text)}</bdi>" in body


def _escaped(text: str) -> str:
    for raw, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(raw, entity)
    return text


def test_the_list_is_searched_and_filtered(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """By what the API can; what is not found is said."""
    pages, name = log_in("viewer"), named("found")
    api.make("/integrations", {"id": name, "description": "Quarterly", "tags": ["q3"], **basic(running.upstream)})
    for query in (f"q={name}", "q=quarterly", "tag=q3", f"q={name}&kind=basic&status=ok"):
        assert f'href="/integrations/{name}"' in pages.get(f"/?{query}").body
    assert f'href="/integrations/{name}"' not in pages.get(f"/?q={name}&kind=headers").body
    assert "No integration is like that" in pages.get("/?q=nothing-like-it").text
    wrong = pages.ask("GET", "/?status=nonsense")
    assert (wrong.status, "query parameter status must be one of ok, " in wrong.text) == (400, True)


def test_every_word_can_be_chosen_and_is_said_in_words(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """The filter offers what the API has; who expires is told in days."""
    pages, name = log_in("viewer"), named("expiring")
    body = pages.get("/").body
    assert re.findall(r'<option value="(\w+)">', body.partition('id="status"')[2].partition("</select>")[0]) == [
        *STATUSES
    ]
    start = datetime.now(UTC) - timedelta(days=10)
    issued = issue(start=start, life=timedelta(days=13, hours=1))
    pair = {"certificate": {"inline": issued.pem.decode()}, "private_key": {"value": issued.key_pem.decode()}}
    auth = {"type": "mtls", "allow_private_ca": True, **pair}
    api.make("/integrations", {"id": name, "endpoint_prefix": "https://bank.test", "auth": auth})
    for path in (f"/?status=expiring&q={name}", f"/integrations/{name}"):
        text = pages.get(path).text
        assert "Expires in 3 days" in text
        assert "its client certificate expires on" in text
    assert f'href="/integrations/{name}"' not in pages.get(f"/?status=ok&q={name}").body
    assert f'href="/integrations/{name}"' in pages.get("/?q=bank.TEST").body
