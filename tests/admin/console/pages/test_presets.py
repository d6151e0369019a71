"""admin/console/pages/presets.py: presets are made, looked at and deleted by people."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin.conftest import Named
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, basic, managed, rewritten
from support.ask import get, post, within
from support.child import Child
from support.pages import Pages, Seen
from support.recording import recording
from support.upstream import RawUpstream

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
            "parameters": {"user": {"type": "text", "max_length": 64}, "n": {"type": "number", "default": 0}},
            "body": {"json": {"n": "{{n}}", "text": "Hello {{user}}"}},
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


def test_one_is_made_and_sent_by_a_caller_who_has_only_it(
    log_in: LogIn, running: Running, api: Api, named: Named
) -> None:
    """By the script of the page; the page says how it is called."""
    pages, name = log_in("editor"), named("welcome")
    start = pages.get("/add/preset")
    assert "Hello {{name}}" in start.body
    seen = pages.call("POST", "/presets", json.dumps({"id": name, **running.document(method="PUT")}))
    assert seen.status == 201
    seen = pages.get(f"/presets/{name}?done=saved")
    assert "Saved, and in use." in seen.text
    assert f"http://127.0.0.1:{running.child.proxy_port}/p/{name}" in seen.text
    admin = Api(running.child.admin_port)
    token = admin.make("/callers", {"name": named("caller"), "presets": [name]})["token"]
    fields = {"Sidekey-Token": token, "Content-Type": "application/json"}
    assert post(running.child.proxy_port, f"/p/{name}", fields, b'{"user": "7"}').status == 200
    arrived = running.upstream.requests[-1]
    assert (arrived.method, arrived.target, arrived.body) == (b"PUT", b"/v1/users/7", b'{"n":0,"text":"Hello 7"}')
    assert arrived.values(b"authorization") == [AUTHORIZATION]
    assert get(running.child.proxy_port, "/i/crm/whoami", fields).status == 403


def test_a_trial_starts_with_examples(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    """Of parameters, or of a payload."""
    pages, name = log_in("editor"), named("sampled")
    api.make("/presets", {"id": name, **running.document()})
    body = pages.get(f"/presets/{name}").body
    assert 'data-trial="parameters"' in body
    assert "&#34;user&#34;: &#34;user&#34;,\n  &#34;n&#34;: 0" in body
    assert 'data-trial="payload"' in pages.get("/presets/written").body


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


def test_viewers_read_and_preview_and_change_nothing(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    name, pages = named("seen"), log_in("viewer")
    api.make("/presets", {"id": name, **running.document(description="For all")})
    seen = pages.get(f"/presets/{name}")
    assert ("For all" in seen.text, "data-editor" in seen.body, "Send test" in seen.text) == (True, False, False)
    trial = {"parameters": {"user": "12"}}
    as_json = {"Content-Type": "application/json"}
    shown = pages.call("POST", f"/presets/{name}/preview", json.dumps(trial), headers=as_json)
    assert json.loads(shown.body)["request"]["body"] == '{"n":0,"text":"Hello 12"}'
    assert pages.call("POST", f"/presets/{name}/test", json.dumps(trial), headers=as_json).status == 403
    token = seen.form("/logout").fields["form_token"]
    assert pages.ask("POST", f"/presets/{name}/delete", {"form_token": token, "version": "1"}).status == 403
    assert pages.ask("GET", "/add/preset").status == 403
    assert api.get(f"/presets/{name}")["version"] == 1


def test_one_of_a_file_is_shown_with_its_place(log_in: LogIn) -> None:
    seen = log_in("editor").get("/presets/written")
    assert "change it there, at presets.written" in seen.text
    assert ("content_type: text/plain" in seen.text, "data-editor" in seen.body) == (True, False)
    assert "Send test" in seen.text


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


def test_one_is_deleted(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    pages, name = log_in("editor"), named("gone")
    api.make("/presets", {"id": name, **running.document()})
    seen = pages.send(pages.get(f"/presets/{name}").form(f"/presets/{name}/delete"))
    assert (seen.path, "Deleted" in seen.text) == ("/presets?done=unmade", True)
    assert pages.ask("GET", f"/presets/{name}").status == 404


def test_one_whose_id_a_file_has_says_so(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    pages, name = log_in("editor"), named("both")
    api.make("/presets", {"id": name, **running.document()})
    text = running.child.config.read_text()
    with rewritten(
        running.child,
        text.replace(
            "  written:",
            f'  {name}: {{integration: of-a-file, url: "{running.base}/file/x", content_type: text/plain}}\n  written:',
        ),
    ):
        within(lambda: api.get(f"/presets/{name}")["status"] == "unusable")
        seen = pages.get(f"/presets/{name}")
        assert "Unusable" in seen.text
        assert "a config file has the same preset ID" in seen.text
        assert "data-trial" not in seen.body
    within(lambda: api.get(f"/presets/{name}")["status"] == "ok")


def test_rows_that_do_not_verify_are_shown_and_can_be_saved_again(tmp_path: Path) -> None:
    """The pages have no document of theirs, and say what to do."""
    document = {"integration": "crm", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"}
    with managed(tmp_path) as child:
        api = Api(child.admin_port)
        api.make("/integrations", {"id": "crm", **basic(1)})
        api.make("/presets", {"id": "hook", **document})
        assert child.stop() == 0
    with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
        database.execute("UPDATE sidekey_rows SET body = replace(body, '/v1', '/v2')")
    with managed(tmp_path) as child:
        pages, api = Pages(child.admin_port), Api(child.admin_port)
        pages.log_in(TOKENS["editor"])
        for path in ("/integrations/crm", "/presets/hook"):
            seen = pages.get(path)
            assert "something other than Sidekey changed its row: save it again, or delete it" in seen.text
            assert ("127.0.0.1:1/" in seen.text, "data-editor" in seen.body) == (False, True)
        for path, written in (("/integrations/crm", basic(1)), ("/presets/hook", document)):
            assert api.ask("PUT", path, written, match='"1"').status == 200
            assert "OK" in pages.get(path).text


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
    """Each page has the same elements as with plain texts."""
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
                "n": {"type": "text", "enum": [words[4], "b"]},
            },
            body={"json": {words[5]: "{{user}} {{n}}", "more": words[0] * 2}},
        )
        api.make("/presets", {"id": name, **document})
        for role, browser in pages.items():
            for path in ("/presets", f"/presets/{name}"):
                seen = browser.get(f"{path}?q={name}" if path == "/presets" else path)
                shapes.setdefault(f"{role} {path.replace(name, 'ID')}", []).append(shape_of(seen))
        assert api.ask("DELETE", f"/presets/{name}", match='"1"').status == 204, kind
    for where, (plain, hostile) in shapes.items():
        assert plain == hostile, where
