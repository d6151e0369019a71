"""admin/console/pages/presets.py: presets are made, looked at, sent, changed and deleted by people."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin.conftest import Named
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, basic, managed, rewritten
from support.ask import get, post, within
from support.child import Child
from support.pages import Form, Pages, Seen
from support.recording import recording
from support.upstream import RawUpstream

SCRIPT = {"Accept": "application/json"}
AUTHORIZATION = b"Basic c3ZjOmEtY2FuYXJ5LW9mLWJhc2lj"


def config(port: int) -> str:
    """A preset of a file, and an integration that cannot be used."""
    return f"""\
integrations:
  of-a-file:
    endpoint_prefix: http://127.0.0.1:{port}/file
    auth: {{type: headers, headers: {{X-Key: {{secret: {{insecure_value: a-secret-of-a-file}}}}}}}}
  unusable:
    endpoint_prefix: http://127.0.0.1:{port}/unusable
    auth: {{type: basic, username: svc, password: {{file: not-there}}}}
presets:
  written:
    integration: of-a-file
    url: http://127.0.0.1:{port}/file/hook
    content_type: text/plain
    description: In a file
"""


@dataclass(frozen=True)
class Running:
    """The process, and the upstream that its integrations may dial."""

    child: Child
    upstream: RawUpstream

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}"

    def document(self, **keys: Any) -> dict[str, Any]:
        """A preset with parameters."""
        return {
            "integration": "crm",
            "url": f"{self.base}/v1/users/{{{{user}}}}",
            "content_type": "application/json",
            "parameters": {"user": {"type": "text", "max_length": 64}, "n": {"type": "integer", "default": 0}},
            "body": {"n": "{{n}}", "text": "Hello {{user}}"},
            **keys,
        }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all."""
    folder = tmp_path_factory.mktemp("presets")
    with recording() as upstream, managed(folder, more=config(upstream.port)) as child:
        Api(child.admin_port).make("/integrations", {"id": "crm", **basic(upstream.port)})
        yield Running(child, upstream)


@pytest.fixture
def api(running: Running) -> Api:
    """By an editor's token."""
    return Api(running.child.admin_port, TOKENS["editor"])


LogIn = Callable[..., Pages]


@pytest.fixture
def log_in(running: Running, named: Named) -> LogIn:
    """Makes a browser that is logged in; `fresh` by a token that nobody has tested with yet."""

    def browser(role: Role, *, fresh: bool = False) -> Pages:
        admin, pages, token = Api(running.child.admin_port), Pages(running.child.admin_port), TOKENS[role]
        if fresh:
            token = admin.make("/tokens", {"name": named("fresh"), "role": role, "own_token": admin.token})["token"]
        assert pages.log_in(token).status == 200
        return pages

    return browser


def filled(running: Running, name: str, **more: str) -> dict[str, str]:
    """What somebody types for a new one."""
    return {
        "/id": name,
        "/description": "Greets somebody",
        "/tags": "mail, crm",
        "/integration": "crm",
        "/method": "PUT",
        "/url": f"{running.base}/v1/users/{{{{user}}}}",
        "/headers#0#name": "X-Source",
        "/headers#0#value": "sidekey",
        "/sends": "parameters",
        "/content_type": "application/json",
        "/parameters#0#name": "user",
        "/parameters#0#max_length": "64",
        "/parameters#1#name": "n",
        "/parameters#1#type": "integer",
        "/parameters#1#need": "default",
        "/parameters#1#default": "0",
        "/body": '{\r\n  "n": "{{n}}",\r\n  "text": "Hello {{user}}"\r\n}',
        **more,
    }


def new(pages: Pages) -> Form:
    return pages.get("/add/preset").form("/add/preset")


def shown_request(seen: Seen) -> str:
    """What the preview shows, as it is read."""
    found = re.search(r'<pre class="request".*?</pre>', seen.body, re.S)
    assert found is not None, seen.text
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def test_one_is_made_without_script_and_sent_by_a_caller_who_has_only_it(
    log_in: LogIn, running: Running, api: Api, named: Named
) -> None:
    """The document is the one that was typed; what arrives is what was shown."""
    pages, name = log_in("editor"), named("welcome")
    seen = pages.send(new(pages), filled(running, name))
    assert (seen.path, "Saved, and in use." in seen.text) == (f"/presets/{name}?done=saved", True)
    document = {
        key: value for key, value in api.get(f"/presets/{name}").items() if key in running.document() | {"headers": 0}
    }
    assert document == running.document(headers={"X-Source": "sidekey"})
    request = f"PUT {running.base}/v1/users/user Authorization: [credential] X-Source: sidekey"
    assert shown_request(seen).startswith(request)
    assert "The credential of crm goes with it: header Authorization." in seen.text
    admin = Api(running.child.admin_port)
    token = admin.make("/callers", {"name": named("caller"), "presets": [name]})["token"]
    fields = {"Sidekey-Token": token, "Content-Type": "application/json"}
    assert post(running.child.proxy_port, f"/p/{name}", fields, b'{"user": "7"}').status == 200
    arrived = running.upstream.requests[-1]
    assert (arrived.method, arrived.target, arrived.body) == (b"PUT", b"/v1/users/7", b'{"n":0,"text":"Hello 7"}')
    assert arrived.values(b"authorization") == [AUTHORIZATION]
    assert get(running.child.proxy_port, "/i/crm/whoami", fields).status == 403


def test_a_preview_is_made_of_what_was_typed_and_sends_and_saves_nothing(
    log_in: LogIn, running: Running, api: Api, named: Named
) -> None:
    """By a button where there is no script; what was typed stays, samples too."""
    pages, name = log_in("editor"), named("draft")
    before = len(running.upstream.requests)
    typed = filled(running, name, **{"/parameters#0#sample": "a b"})
    seen = pages.send(new(pages), typed, action="/add/preset/preview")
    assert f"PUT {running.base}/v1/users/a%20b" in shown_request(seen)
    form = seen.form("/add/preset")
    assert {key: form.fields[key] for key in typed} == typed
    assert (len(running.upstream.requests), api.ask("GET", f"/presets/{name}").code) == (before, "not_found")
    seen = pages.send(
        form, {"/url": f"{running.base}/elsewhere", "/parameters#1#sample": "x"}, action="/add/preset/preview"
    )
    assert "URL : must be allowed by integration crm" in seen.text
    assert "Sample n : must be a whole number" in seen.text


def test_a_test_is_sent_and_says_so_before(log_in: LogIn, running: Running, named: Named) -> None:
    """Of what was typed, before it is saved; the outcome is shown, and nothing of the response."""
    pages, name = log_in("editor", fresh=True), named("tried")
    page = pages.get("/add/preset")
    assert "Send test is a real request" in page.text
    form = page.form("/add/preset")
    seen = pages.send(form, filled(running, name, **{"/parameters#0#sample": "9"}), action="/add/preset/test")
    assert "200 in" in seen.text
    assert "this was a real request" in seen.text
    assert running.upstream.requests[-1].target == b"/v1/users/9"
    before = len(running.upstream.requests)
    seen = pages.send(form, filled(running, name, **{"/body": "{"}), action="/add/preset/test")
    assert "Body : line 1, column 2: is not JSON from here on" in seen.text
    seen = pages.send(form, filled(running, name), action="/add/preset/test")
    assert "at most one test a second" in seen.text
    assert len(running.upstream.requests) == before


def test_the_last_test_of_what_is_saved_is_shown(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    """To everybody, until it is changed."""
    name = named("tested")
    api.make("/presets", {"id": name, **running.document()})
    pages = log_in("editor", fresh=True)
    tester = api.by(
        Api(running.child.admin_port).make(
            "/tokens", {"name": named("t"), "role": "editor", "own_token": TOKENS["admin"]}
        )["token"]
    )
    assert tester.ask("POST", f"/presets/{name}/test", {"parameters": {"user": "1"}}).json["ok"]
    assert "200 in" in pages.get(f"/presets/{name}").text
    assert api.ask("PATCH", f"/presets/{name}", {"description": "x"}, match='"1"').status == 200
    assert "200 in" not in pages.get(f"/presets/{name}").text


def test_all_that_is_wrong_is_said_beside_it_and_nothing_is_lost(log_in: LogIn, running: Running, named: Named) -> None:
    """What only a form can say, with the line, and what the API says of the rest."""
    pages = log_in("editor")
    wrong = {
        "/id": "No ID",
        "/url": "https://elsewhere.example/{{nobody}}",
        "/headers#1#name": "Host",
        "/headers#1#value": "x",
        "/parameters#1#default": "many",
        "/body": '{"a":\n"b" "c"}',
    }
    seen = pages.send(new(pages), filled(running, named("x"), **wrong))
    assert (seen.status, seen.path) == (200, "/add/preset")
    errors = dict(re.findall(r'<p class="error" id="([^"]*)!error">([^<]*)</p>', seen.body))
    assert errors.keys() == {"/id", "/url", "/headers#1", "/parameters#1", "/body"}
    assert errors["/body"] == "line 2, column 5: is not JSON from here on"
    assert errors["/parameters#1"] == "Default: must be a whole number"
    form = seen.form("/add/preset")
    assert {key: form.fields[key] for key in wrong} == wrong
    answer = pages.ask("POST", "/add/preset", {**form.fields, **wrong}, SCRIPT)
    said = json.loads(answer.body)
    assert (answer.status, said["code"], said["rest"]) == (200, "invalid", [])
    assert {pointer for pointer, _ in said["errors"]} == {"/id", "/url", "/headers/Host", "/parameters/n", "/body"}


def test_a_script_gets_the_preview_alone(log_in: LogIn, running: Running, named: Named) -> None:
    """The very part of the page; so it shows what the page shows."""
    pages = log_in("editor")
    sent = {**new(pages).fields, **filled(running, named("part"))}
    answer = pages.ask("POST", "/add/preset/preview", sent, SCRIPT)
    assert answer.status == 200
    assert answer.body.startswith(f'<div data-said="Preview: PUT {running.base}/v1/users/user">')
    assert "<html" not in answer.body
    page = pages.ask("POST", "/add/preset/preview", sent)
    assert answer.body.strip() in page.body


def test_a_lost_update_says_what_differs_and_leaves_the_choice(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """Save again, or load the page; a script is told the version that the next attempt is for."""
    pages, name = log_in("editor"), named("shared")
    api.make("/presets", {"id": name, **running.document()})
    form = pages.get(f"/presets/{name}").form(f"/presets/{name}")
    admin = Api(running.child.admin_port)
    assert admin.ask("PATCH", f"/presets/{name}", {"description": "theirs"}, match='"1"').status == 200
    answer = pages.ask("POST", f"/presets/{name}", {**form.fields, "/method": "PATCH"}, SCRIPT)
    said = json.loads(answer.body)
    assert (said["code"], said["version"]) == ("changed", 2)
    seen = pages.send(form, {"/method": "PATCH"})
    assert (
        "changed by admin-of-file after this page was loaded: theirs differs from yours in Description, Method"
        in seen.text
    )
    assert api.get(f"/presets/{name}")["description"] == "theirs"
    again = seen.form(f"/presets/{name}")
    assert (again.fields["/method"], again.fields["version"]) == ("PATCH", "2")
    assert "Saved" in pages.send(again).text
    assert api.get(f"/presets/{name}").get("description") is None


def test_what_is_saved_unchanged_stays_as_it_is(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """Also where a form could write it otherwise."""
    pages, name = log_in("editor"), named("kept")
    document = running.document(
        tags=["a,b", " c"], content_type="application/x-www-form-urlencoded", body={"n": 5, "a": " {{user}}\r\n"}
    )
    api.make("/presets", {"id": name, **document})
    pages.send(pages.get(f"/presets/{name}").form(f"/presets/{name}"))
    found = api.get(f"/presets/{name}")
    assert ({key: found[key] for key in document}, found["version"]) == (document, 1)


def test_viewers_read_and_preview_and_change_nothing(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """No form to change anything is in their pages, and none that they make counts."""
    name, pages = named("seen"), log_in("viewer")
    api.make("/presets", {"id": name, **running.document(description="For all")})
    seen = pages.get(f"/presets/{name}")
    assert {form.action for form in seen.forms if form.action} == {"/logout", f"/presets/{name}/preview"}
    assert "For all" in seen.text
    assert "Send test" not in seen.text
    form = seen.form(f"/presets/{name}/preview")
    assert "Hello 12" in shown_request(pages.send(form, {"/parameters#0#sample": "12"}))
    token = form.fields["form_token"]
    body = {**form.fields, "form_token": token, "version": "1", "/url": f"{running.base}/v1/x", "/integration": "crm"}
    for path in (f"/presets/{name}", f"/presets/{name}/test", f"/presets/{name}/delete", f"/presets/{name}/release"):
        assert pages.ask("POST", path, body).status == 403
    for path in ("/add/preset", "/add/preset/preview", "/add/preset/test"):
        assert pages.ask("POST", path, body).status == 403
    assert [pages.ask("GET", path).status for path in ("/add/preset", "/add/preset/integrations")] == [403, 403]
    # A form with an URL asks for a draft, which is for editors.
    assert "this needs the role editor" in pages.ask("POST", f"/presets/{name}/preview", body).body
    assert api.get(f"/presets/{name}")["version"] == 1


def test_one_of_a_file_is_shown_with_its_place_and_sent_by_editors(log_in: LogIn, running: Running) -> None:
    pages = log_in("editor", fresh=True)
    seen = pages.get("/presets/written")
    assert "A config file: it can be changed there, at presets.written ." in seen.text
    assert {form.action for form in seen.forms if form.action} == {"/logout", "/presets/written/preview"}
    form = seen.form("/presets/written/preview")
    assert "Content-Type: text/plain" in shown_request(seen)
    seen = pages.send(form, {"payload": "so\nit is"}, action="/presets/written/test")
    assert "200 in" in seen.text
    assert running.upstream.requests[-1].body == b"so\nit is"
    seen = pages.ask("POST", "/presets/written", {**form.fields, "/url": "x", "version": "1"})
    assert "it is written in a config file: change it there" in seen.text


def test_the_list_finds_and_filters(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """A row has all that it takes to know one again."""
    pages, name, tag = log_in("viewer"), named("listed"), named("tag")
    api.make("/presets", {"id": name, **running.document(description="Greets <all>", tags=[tag, "a b&c"])})
    seen = pages.get(f"/presets?q={name}")
    for text in (name, "Greets &lt;all&gt;", tag, f"{running.base}/v1/users/{{{{user}}}}", "crm", "OK", "Store"):
        assert text in seen.body
    assert f'href="/presets?tag={tag}"' in seen.body
    assert 'href="/integrations/crm"' in seen.body
    assert "Add preset" not in seen.body
    assert name in pages.get(f"/presets?tag={tag}").body
    assert f">{name}</a>" not in pages.get("/presets?integration=of-a-file").body
    assert "In a file" in pages.get("/presets?integration=of-a-file").text
    assert "No preset is like that" in pages.get("/presets?q=nothing-of-the-kind").text
    assert "Add preset" in log_in("editor").get("/presets").body


def test_an_empty_list_says_how_to_make_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Here, or in a file, with an example that is one."""
    with managed(tmp_path_factory.mktemp("empty")) as child:
        for role, text in (("editor", "Make the first"), ("viewer", "None yet")):
            pages = Pages(child.admin_port)
            pages.log_in(TOKENS[role])
            seen = pages.get("/presets")
            assert text in seen.text
            assert "presets: welcome: integration: crm" in seen.text


def test_only_integrations_that_can_be_used_are_to_be_chosen(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """The others are named, with why; many are searched."""
    pages = log_in("editor")
    page = pages.get("/add/preset?integration=crm")
    assert page.form("/add/preset").fields["/integration"] == "crm"
    assert "<option>unusable</option>" not in page.body
    assert "1 cannot be chosen" in page.text
    reason = "auth.password: the file does not exist"
    assert f'<a href="/integrations/unusable">unusable</a>: {reason}' in page.body
    word = named("many")
    for number in range(50):
        api.make("/integrations", {"id": f"{word}-{number}", **basic(running.upstream.port)})
    page = pages.get("/add/preset")
    assert 'list="/integration!list"' in page.body
    found = pages.get(f"/add/preset/integrations?q={word}-4").body
    assert "unusable" not in found
    assert f'<option value="{word}-41"></option>' in found
    for number in range(50):
        assert api.ask("DELETE", f"/integrations/{word}-{number}", match='"1"').status == 204


def test_one_is_deleted(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    pages, name = log_in("editor"), named("gone")
    api.make("/presets", {"id": name, **running.document()})
    seen = pages.send(pages.get(f"/presets/{name}").form(f"/presets/{name}/delete"))
    assert (seen.path, "Deleted" in seen.text) == ("/presets?done=unmade", True)
    assert pages.ask("GET", f"/presets/{name}").status == 404


def test_what_a_file_hides_says_so_and_is_served_again(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    pages, name = log_in("editor"), named("hidden")
    api.make("/presets", {"id": name, **running.document()})
    text = running.child.config.read_text()
    with rewritten(
        running.child,
        text.replace(
            "  written:",
            f'  {name}: {{integration: of-a-file, url: "{running.base}/file/x", content_type: text/plain}}\n  written:',
        ),
    ):
        within(lambda: api.get(f"/presets/{name}")["status"] == "hidden")
        seen = pages.get(f"/presets/{name}")
        assert "Hidden" in seen.text
        assert f"/presets/{name}/preview" not in {form.action for form in seen.forms}
    within(lambda: "a file had" in (api.get(f"/presets/{name}")["reason"] or ""))
    seen = pages.send(pages.get(f"/presets/{name}").form(f"/presets/{name}/release"))
    assert "Served again." in seen.text


class _Shape(HTMLParser):
    """The elements of a page with the names of their attributes: what texts must not change."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def shape_of(seen: Seen) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Shape()
    parser.feed(seen.body)
    return parser.found


HOSTILE = (
    '"><script>alert(1)</script>',
    "'\"--></textarea></title><img src=x onerror=alert(1)>",
    "\u202egnp.exe\u2066\u200f",
    "{{7*7}}".replace("{{", "{ {"),
    "x" * 2000,
    "<b>&amp;\x07`",
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from(HOSTILE), min_size=6, max_size=6))
def test_texts_are_inert_wherever_they_are_shown(
    log_in: LogIn, running: Running, api: Api, named: Named, texts: list[str]
) -> None:
    """Each page has the same elements as with plain texts, and inputs contain the very texts."""
    shapes: dict[str, list[Any]] = {}
    pages = {role: log_in(role) for role in ("viewer", "editor")}
    for kind, words in (("plain", ["plain"] * 6), ("hostile", texts)):
        name = named("inert")
        tag = words[1][:100].replace(",", "")
        document = running.document(
            url=f"{running.base}/v1/inert",
            description=words[0],
            tags=[tag],
            headers={"X-A": words[2].replace("\x07", "").encode("ascii", "ignore").decode() or "x"},
            parameters={
                "user": {"type": "text", "default": words[3]},
                "n": {"type": "text", "one_of": [words[4], "b"]},
            },
            body={words[5]: "{{user}} {{n}}", "more": words[0] * 2},
        )
        api.make("/presets", {"id": name, **document})
        for role, browser in pages.items():
            for path in ("/presets", f"/presets/{name}"):
                seen = browser.get(f"{path}?q={name}" if path == "/presets" else path)
                shapes.setdefault(f"{role} {path.replace(name, 'ID')}", []).append(shape_of(seen))
        fields = pages["editor"].get(f"/presets/{name}").form(f"/presets/{name}").fields
        assert (fields["/description"], fields["/parameters#0#default"]) == (words[0], words[3])
        assert json.loads(fields["/body"]) == document["body"]
        assert api.ask("DELETE", f"/presets/{name}", match='"1"').status == 204, kind
    for where, (plain, hostile) in shapes.items():
        assert plain == hostile, where
