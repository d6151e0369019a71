"""Headers and parameters that override the method or target at some servers: Sidekey does not forward them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.api import Api, basic, managed
from support.private_ca import Authority
from support.raw_connection import connect
from support.serving import HEAD, RunningApp, problem, serving
from support.sidekey_process import run_cli
from support.tunnels import connect_request
from support.upstream import RawUpstream
from support.wire import Message

HOST = "up.test"
HEADERS = [
    "Forwarded",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Original-URI",
    "X-Waws-Unencoded-Url",
    "X-Envoy-Original-Path",
]
"""Headers that Sidekey drops from requests with a credential."""

SPELLINGS = [spelling for name in HEADERS for spelling in (name, name.lower(), name.upper(), name.replace("-", "_"))]
ROUTES = ["reverse", "forward", "tunnel", "match_by_host"]


def config(port: int, *keys: str) -> str:
    """Build an integration with these keys, and presets of it."""
    base = f"http://{HOST}:{port}/v1"
    settings = ", ".join([f"endpoint_prefix: '{base}'", *keys])
    auth = "auth: {type: headers, headers: {X-Key: {secret: {insecure_value: secret}}}}"
    return f"""\
  it: {{{settings}, {auth}}}
presets:
  fixed: {{integration: it, method: POST, url: '{base}/a?_method=DELETE', content_type: text/plain}}
  filled:
    integration: it
    method: POST
    url: '{base}/a?_method={{{{method}}}}'
    parameters: {{method: {{type: text}}}}
    body: {{json: {{a: 1}}}}
"""


WITH_CA = HEAD.replace("integrations:\n", "ca: {{folder: state}}\nforward: {{match_by_host: true}}\nintegrations:\n")
PASSING = HEAD.replace("integrations:\n", "ca: {{folder: state}}\nforward: {{unmatched: pass}}\nintegrations:\n")


async def send(sidekey: RunningApp, port: int, route: str, path: str, *fields: str, method: str = "GET") -> Message:
    """Send one request by this route, to `path` below the prefix."""
    authority = f"{HOST}:{port}"
    if route == "reverse":
        return await sidekey.reverse(path, *fields, method=method)
    if route == "forward":
        return await sidekey.forward(f"http://{authority}/v1{path}", *fields, method=method)
    lines = [f"{method} /v1{path} HTTP/1.1", f"Host: {authority}", *fields, "", ""]
    if route == "match_by_host":
        lines[0] = f"{method} http://{authority}/v1{path} HTTP/1.1"
        return await sidekey.send("\r\n".join(lines).encode())
    async with connect(sidekey.port) as caller:
        await caller.send(connect_request(authority, user="it:x"))
        assert (await caller.response(to_head=True)).status == 200
        await caller.send("\r\n".join(lines).encode())
        return await caller.response()


@pytest.mark.parametrize("route", ROUTES)
async def test_header_that_overrides_the_target_does_not_pass_with_a_credential(
    route: str, ca: Authority, tmp_path: Path
) -> None:
    async with (
        RawUpstream() as upstream,
        serving(config(upstream.port), tmp_path, ca, hosts={HOST: ["127.0.0.1"]}, head=WITH_CA) as sidekey,
    ):
        fields = [f"{name}: evil" for name in SPELLINGS]
        response = await send(sidekey, upstream.port, route, "/a", *fields, "X-Forwarded-For: 192.0.2.1", "X-Other: b")
        assert response.status == 200
        (request,) = upstream.requests
        assert request.values(b"x-key") == [b"secret"]
        names = {name.replace(b"_", b"-") for name, _ in request.headers}
        assert not names & {name.lower().encode() for name in HEADERS}
        assert {b"x-forwarded-for", b"x-other"} <= names


async def test_header_in_pass_headers_passes(ca: Authority, tmp_path: Path) -> None:
    """Names are compared without case."""
    keys = "pass_headers: [X-Forwarded-Host, forwarded]"
    async with (
        RawUpstream() as upstream,
        serving(config(upstream.port, keys), tmp_path, ca, hosts={HOST: ["127.0.0.1"]}, head=WITH_CA) as sidekey,
    ):
        await send(sidekey, upstream.port, "reverse", "/a", *[f"{name}: a" for name in HEADERS])
        (request,) = upstream.requests
        passed = {name for name, value in request.headers if value == b"a"}
        assert passed == {b"x-forwarded-host", b"forwarded"}


async def test_headers_pass_without_a_credential(ca: Authority, tmp_path: Path) -> None:
    """`forward.unmatched: pass` forwards a request unchanged."""
    async with (
        RawUpstream() as upstream,
        serving(config(1), tmp_path, ca, hosts={"other.test": ["127.0.0.1"]}, head=PASSING) as sidekey,
    ):
        fields = [f"{name}: a" for name in HEADERS]
        await sidekey.send(
            "\r\n".join([f"GET http://other.test:{upstream.port}/ HTTP/1.1", "Host: a", *fields, "", ""]).encode()
        )
        (request,) = upstream.requests
        assert {name for name, value in request.headers if value == b"a"} == {name.lower().encode() for name in HEADERS}


@pytest.mark.parametrize("name", ["X-Original-URL", "Host", "X-Forwarded-For", "Authorization", "X-HTTP-Method", ""])
def test_other_header_in_pass_headers_is_an_error(name: str, tmp_path: Path) -> None:
    """The error has a location and the allowed headers."""
    path = tmp_path / "sidekey.yaml"
    path.write_text("version: 1\nintegrations:\n" + config(1, f"pass_headers: [Forwarded, '{name}']"))
    result = run_cli("check", "--config", str(path))
    assert result.returncode == 1
    assert "integrations.it.pass_headers[1]: must be one of Forwarded, X-Forwarded-Host," in result.stdout


def test_preset_cannot_send_a_header_that_is_dropped(tmp_path: Path) -> None:
    """The error names `pass_headers` as the remedy."""
    path = tmp_path / "sidekey.yaml"
    for keys, status in (([], 1), (["pass_headers: [X-Forwarded-Host]"], 0)):
        text = config(1, *keys).replace("content_type: text/plain", "content_type: text/plain, headers: {NAME: a}")
        path.write_text("version: 1\nintegrations:\n" + text.replace("NAME", "X-Forwarded-Host"))
        result = run_cli("check", "--config", str(path))
        assert result.returncode == status, result.stdout
        assert ("or list it there in pass_headers" in result.stdout) is (status == 1)


@pytest.mark.parametrize("header", ["X-Original-URL", "X_Rewrite_URL", "Proxy-Authorization"])
def test_preset_cannot_send_a_header_that_no_caller_may_send(header: str, tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    text = config(1).replace("content_type: text/plain", f"content_type: text/plain, headers: {{{header}: /admin}}")
    path.write_text("version: 1\nintegrations:\n" + text)
    result = run_cli("check", "--config", str(path))
    assert result.returncode == 1
    assert f"headers.{header}: may not be set" in result.stdout


def test_editor_cannot_let_headers_pass(tmp_path: Path) -> None:
    """Only the operator decides whether a header may override the target of a stored credential."""
    with managed(tmp_path) as child:
        api = Api(child.admin_port)
        document = {"id": "crm", **basic(9), "pass_headers": ["X-Forwarded-Host"]}
        refused = api.request("POST", "/integrations", document)
        assert (refused.status, refused.pointers) == (422, {"/pass_headers"})
        assert "only the operator passes these headers" in refused.json["errors"][0]["detail"]
        document.pop("pass_headers")
        assert api.request("POST", "/integrations", document).status == 201
        assert "pass_headers" not in json.dumps(api.get("/openapi.json")["components"]["schemas"]["NewIntegration"])


DENIED = [
    "_method=DELETE",
    "_HttpMethod=DELETE",
    "_METHOD=delete",
    "a=1&_httpmethod=Put",
    "a=1;_method=PUT",
    "_method=GET&_method=DELETE",
    "_method",
    "_method=",
    "_method=GET%00",
    "_method[]=DELETE",
    "%5fmethod=DELETE",
    "%5F%6D%65thod=DELETE",
    "%255fmethod=DELETE",
    "a=1%26_method=DELETE",
    "_%48ttpMethod=DELETE",
    "%EF%BC%BFmethod=DELETE",
    ".method=DELETE",
    "+_method=DELETE",
    "_method=DELETE%26_method=GET",
    "_method=GE%54%54",
]
ALLOWED = [
    "_method=GET",
    "_METHOD=post",
    "_HttpMethod=Get",
    "%5fmethod=G%45T&a=b",
    "_method=GET&_method=POST",
    "method=DELETE",
    "payment_method=DELETE",
    "_methods=DELETE",
    "a=_method=DELETE",
    "a=b",
]


@pytest.mark.parametrize("route", ROUTES)
async def test_query_cannot_name_a_method_that_is_not_allowed(route: str, ca: Authority, tmp_path: Path) -> None:
    """The check covers every spelling of the parameter's name."""
    async with (
        RawUpstream() as upstream,
        serving(
            config(upstream.port, "methods: [GET, POST]"), tmp_path, ca, hosts={HOST: ["127.0.0.1"]}, head=WITH_CA
        ) as sidekey,
    ):
        for query in DENIED:
            response = await send(sidekey, upstream.port, route, f"/a?{query}")
            assert response.status == 403, query
            assert problem(response)["code"] == "target_denied"
            assert "_method" in problem(response)["detail"]
        assert upstream.requests == []
        for query in ALLOWED:
            assert (await send(sidekey, upstream.port, route, f"/a?{query}")).status == 200, query
        assert [request.target for request in upstream.requests] == [f"/v1/a?{query}".encode() for query in ALLOWED]


async def test_query_may_name_any_method_without_methods(ca: Authority, tmp_path: Path) -> None:
    async with (
        RawUpstream() as upstream,
        serving(config(upstream.port), tmp_path, ca, hosts={HOST: ["127.0.0.1"]}, head=WITH_CA) as sidekey,
    ):
        assert (await send(sidekey, upstream.port, "reverse", "/a?_method=DELETE")).status == 200


async def test_preset_cannot_name_a_method_that_is_not_allowed(ca: Authority, tmp_path: Path) -> None:
    """The check covers the preset's URL and its parameters."""
    async with (
        RawUpstream() as upstream,
        serving(
            config(upstream.port, "methods: [GET, POST]"), tmp_path, ca, hosts={HOST: ["127.0.0.1"]}, head=WITH_CA
        ) as sidekey,
    ):

        async def send_preset(name: str, kind: str, body: bytes) -> Message:
            lines = [f"POST /p/{name} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}"]
            return await sidekey.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)

        for response in (
            await send_preset("fixed", "text/plain", b"a"),
            await send_preset("filled", "application/json", b'{"method": "DELETE"}'),
        ):
            assert (response.status, problem(response)["code"]) == (403, "target_denied")
        assert upstream.requests == []
        assert (await send_preset("filled", "application/json", b'{"method": "get"}')).status == 200
        series = 'sidekey_denials_total{integration="it",reason="method_not_allowed"}'
        assert await sidekey.metric(series) == 2


def test_explain_denies_a_query_that_names_a_method(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text("version: 1\nintegrations:\n" + config(1, "methods: [GET]"))
    for query, status in (("_method=DELETE", 1), ("_method=GET", 0)):
        result = run_cli("explain", "it", f"/a?{query}", "--json", "--config", str(path))
        explanation = json.loads(result.stdout)
        assert (result.returncode, explanation["allowed"]) == (status, status == 0)
        assert explanation["code"] == ("target_denied" if status else None)
