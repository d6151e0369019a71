"""`/integrations`: create, read, change, delete and list integrations."""

from __future__ import annotations

import hmac
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.api import Api, ApiSetup, basic, rewritten
from support.certificates import issue
from support.client_files import ClientAuthority
from support.http_get import get, wait_until

Named = Callable[[str], str]
TOKEN = {"Sidekey-Token": "the-token-of-a-file"}


def test_new_integration_serves_at_once_and_is_shown_without_its_secret(
    editor: Api, running: ApiSetup, named: Named
) -> None:
    """The response is 201 with ETag and Location. The next request of a caller has the credential."""
    name = named("crm")
    response = editor.request("POST", "/integrations", {"id": name, **basic(running.upstream)})
    assert (response.status, response.etag, response.headers["Location"]) == (
        201,
        '"1"',
        f"/api/v1/integrations/{name}",
    )
    sent = get(running.child.proxy_port, f"/i/{name}/x", TOKEN)
    assert "authorization: Basic c3ZjOmEtY2FuYXJ5LW9mLWJhc2lj" in sent.body
    shown = response.json
    assert shown == editor.get(f"/integrations/{name}")
    secret = shown["auth"]["password"]
    assert secret.keys() == {"set", "id", "set_at", "set_by"}
    assert (secret["set"], secret["set_by"]) == (True, "editor-of-file")
    assert (shown["source"], shown["status"]) == ("store", "ok")
    assert (shown["kind"], shown["version"], shown["problem"]) == ("basic", 1, None)


def test_stored_integration_may_allow_websocket(editor: Api, running: ApiSetup, named: Named) -> None:
    """Not together with a key that needs the body. The secret need not be entered again."""
    name = named("chat")
    created = editor.request("POST", "/integrations", {"id": name, **basic(running.upstream)})
    path = f"/integrations/{name}"
    changed = editor.request("PATCH", path, {"upgrade": ["websocket"]}, match=created.etag)
    assert (changed.status, changed.json["upgrade"]) == (200, ["websocket"])
    refused = editor.request("PATCH", path, {"redact_response": True}, match=changed.etag)
    assert refused.status == 422
    assert [error["pointer"] for error in refused.json["errors"]] == ["/upgrade"]


def test_search_finds_an_integration_by_each_word(editor: Api, named: Named) -> None:
    """Search covers title, tags and host, and all names of the kind and provider."""
    name = named("crt")
    auth = {"type": "oauth2", "provider": "criteo", "client_id": "c", "client_secret": {"value": "a-canary"}}
    editor.create("/integrations", {"id": name, "title": f"Newsletter {name}", "tags": ["ads"], "auth": auth})
    for words in ("criteo marketing", "NEWSLETTER", "OAuth ads", "client credentials", "api.criteo.com"):
        (item,) = editor.get(f"/integrations?{urlencode({'q': f'{words} {name}'})}")["items"]
        assert (item["id"], item["title"], item["hosts"]) == (name, f"Newsletter {name}", ["api.criteo.com"])
    assert editor.get(f"/integrations?{urlencode({'q': f'authentication {name}'})}")["items"] == []


def test_page_includes_usage_on_request(editor: Api, running: ApiSetup, named: Named) -> None:
    """The page counts requests that this process has not written to the store yet."""
    name = named("seen")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    assert get(running.child.proxy_port, f"/i/{name}/x", TOKEN).status == 200
    (item,) = editor.get(f"/integrations?q={name}&include=usage")["items"]
    points = item["usage"]["points"]
    assert (len(points), [sum(counts) for counts in zip(*points, strict=True)]) == (24, [1, 0])
    assert item["usage"]["last_used_at"] is not None
    assert "usage" not in editor.get(f"/integrations?q={name}")["items"][0]
    assert editor.request("GET", "/integrations?include=all").code == "malformed"


def test_page_has_the_tags_of_all_integrations(editor: Api, running: ApiSetup, named: Named) -> None:
    """A page has the tags of integrations in files and in the store, even of those that are not on the page."""
    editor.create("/integrations", {"id": named("tagged"), "tags": ["Zeta", "files"], **basic(running.upstream)})
    page = editor.get("/integrations?q=nowhere")
    assert page["items"] == []
    assert [tag for tag in page["tags"] if tag in ("files", "Zeta")] == ["Zeta", "files"]


def test_title_over_the_limit_is_refused(editor: Api, running: ApiSetup, named: Named) -> None:
    document = {"id": named("long"), "title": "x" * 201, **basic(running.upstream)}
    assert editor.request("POST", "/integrations", document).pointers == {"/title"}


def test_put_keeps_the_secret_and_removes_omitted_keys(editor: Api, running: ApiSetup, named: Named) -> None:
    """The request repeats the response to GET, with a description."""
    name = named("put")
    shown = editor.create("/integrations", {"id": name, **basic(running.upstream)})
    response = editor.request("PUT", f"/integrations/{name}", {**shown, "description": "ours"}, match='"1"')
    assert (response.status, response.etag, response.json["description"]) == (200, '"2"', "ours")
    assert response.json["auth"]["password"] == shown["auth"]["password"]
    assert "authorization: Basic" in get(running.child.proxy_port, f"/i/{name}/x", TOKEN).body
    del shown["test"]
    response = editor.request("PUT", f"/integrations/{name}", shown, match='"2"')
    assert "test" not in response.json
    assert "description" not in response.json


def test_merge_patch_keeps_omitted_keys_and_null_removes_one(editor: Api, running: ApiSetup, named: Named) -> None:
    """Sidekey requires the media type of RFC 7396."""
    name = named("patch")
    editor.create("/integrations", {"id": name, "tags": ["a"], **basic(running.upstream)})
    response = editor.request("PATCH", f"/integrations/{name}", {"description": "x", "tags": None}, match='"1"')
    assert response.status == 200
    assert response.json["auth"]["password"]["set"] is True
    assert response.json["description"] == "x"
    assert "tags" not in response.json
    plain = {"Content-Type": "application/json"}
    response = editor.request("PATCH", f"/integrations/{name}", {"description": "y"}, match='"2"', headers=plain)
    assert (response.status, response.headers["Accept-Patch"]) == (415, "application/merge-patch+json")


def test_changed_destination_needs_every_secret_again(editor: Api, running: ApiSetup, named: Named) -> None:
    """Without the secrets, the response is 422 with a pointer for each, and nothing changes."""
    name = named("moved")
    shown = editor.create("/integrations", {"id": name, **basic(running.upstream)})
    other = f"http://127.0.0.1:{running.upstream}/v2"
    for response in (
        editor.request("PATCH", f"/integrations/{name}", {"endpoint_prefix": other}, match='"1"'),
        editor.request("PUT", f"/integrations/{name}", {**shown, "endpoint_prefix": other}, match='"1"'),
    ):
        assert (response.status, response.code, response.pointers) == (
            422,
            "reenter",
            {"/auth/password", "/auth/username"},
        )
    assert editor.get(f"/integrations/{name}") == shown
    change = {"endpoint_prefix": other, "auth": {"username": {"value": "svc"}, "password": {"value": "entered again"}}}
    response = editor.request("PATCH", f"/integrations/{name}", change, match='"1"')
    assert (response.status, response.json["base"]) == (200, other)


def test_response_has_all_errors_as_pointers_and_repeats_no_value(editor: Api, named: Named) -> None:
    canary = "pasted-in-the-wrong-place"
    document = {
        "id": named("wrong"),
        "endpoint_prefix": f"ftp://{canary}",
        "allow_private": ["10.0.0.0/8"],
        "auth": {"type": "basic", "username": f"a:{canary}", "password": canary},
        "limits": {"in_flight": canary},
        "trusted_ca": {"file": f"/{canary}"},
        "nothing-we-know": canary,
    }
    response = editor.request("POST", "/integrations", {**document, "id": f"Not {canary}"})
    assert (response.status, response.code) == (422, "invalid")
    assert {
        "/id",
        "/endpoint_prefix",
        "/allow_private",
        "/auth/username",
        "/auth/password",
        "/limits/in_flight",
        "/trusted_ca",
        "/nothing-we-know",
    } <= response.pointers
    assert canary not in response.body.decode()


@pytest.mark.parametrize(
    "secret",
    [{"file": "/etc/hostname"}, {"env": "HOME"}, {"insecure_value": "x"}, {"value": "***"}, {"value": ""}, "x", {}],
)
def test_keys_for_files_are_refused_with_the_remedy(editor: Api, named: Named, secret: Any) -> None:
    """Otherwise an editor could make Sidekey send its own key file to any host."""
    document = {"id": named("refused"), **basic(1)}
    document["auth"]["password"] = secret
    response = editor.request("POST", "/integrations", document)
    assert (response.status, response.code, response.pointers) == (422, "invalid", {"/auth/password"})


def test_deleted_integration_is_unknown_to_callers_at_once(editor: Api, running: ApiSetup, named: Named) -> None:
    name = named("gone")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    assert editor.request("DELETE", f"/integrations/{name}", match='"1"').status == 204
    assert editor.request("GET", f"/integrations/{name}").code == "not_found"
    assert editor.request("DELETE", f"/integrations/{name}", match='"1"').code == "not_found"
    assert get(running.child.proxy_port, f"/i/{name}/x", TOKEN).status == 403


def test_integration_of_a_file_is_read_only(editor: Api) -> None:
    """The response omits its document."""
    shown = editor.get("/integrations/of-a-file")
    assert (shown["source"], shown["version"], shown["kind"]) == ("file", None, "headers")
    assert "auth" not in shown
    for method, body in (("PUT", basic(1)), ("PATCH", {}), ("DELETE", None)):
        response = editor.request(method, "/integrations/of-a-file", body, match='"1"')
        assert (response.status, response.code) == (409, "read_only"), method
    response = editor.request("POST", "/integrations", {"id": "of-a-file", **basic(1)})
    assert (response.status, response.code) == (409, "exists")


def test_id_is_unique_valid_and_constant(editor: Api, running: ApiSetup, named: Named) -> None:
    name = named("twice")
    shown = editor.create("/integrations", {"id": name, **basic(running.upstream)})
    assert editor.request("POST", "/integrations", {"id": name, **basic(running.upstream)}).code == "exists"
    for wrong in ("Upper", "", "unknown", "a/b", None, 7, "-x"):
        response = editor.request("POST", "/integrations", {"id": wrong, **basic(running.upstream)})
        assert (response.code, response.pointers) == ("invalid", {"/id"})
    for method in ("PUT", "PATCH"):
        response = editor.request(method, f"/integrations/{name}", {**shown, "id": "other", "more": 1}, match='"1"')
        assert (response.code, response.pointers) == ("invalid", {"/id", "/more"})


def test_certificate_is_shown_and_described(editor: Api, named: Named, tmp_path: Path) -> None:
    """A document that repeats the certificate keeps its key."""
    name, issued = named("mtls"), ClientAuthority(tmp_path).issue("client.example")
    pair = {"certificate": {"inline": issued.pem.decode()}, "private_key": {"value": issued.key_pem.decode()}}
    auth = {"type": "mtls", **pair, "allow_private_ca": True}
    shown = editor.create("/integrations", {"id": name, "endpoint_prefix": "https://api.example.com", "auth": auth})
    certificate = shown["auth"]["certificate"]
    assert certificate == pair["certificate"]
    described = editor.request("POST", "/drafts/integration/preview", shown).json["certificate"]
    assert described.keys() == {"subject", "issuer", "alternative_names", "not_after"}
    assert described["subject"] == "CN=client.example"
    assert editor.request("POST", "/drafts/integration/preview", basic(1)).json["certificate"] is None
    broken = {**shown, "auth": {**shown["auth"], "certificate": {"inline": "-----BEGIN CERTIFICATE-----"}}}
    assert editor.request("POST", "/drafts/integration/preview", broken).json["certificate"] is None
    assert shown["auth"]["private_key"]["set"] is True
    response = editor.request("PUT", f"/integrations/{name}", {**shown, "description": "x"}, match='"1"')
    assert response.json["auth"]["certificate"] == certificate
    del shown["auth"]["private_key"]
    assert editor.request("PUT", f"/integrations/{name}", shown, match='"2"').status == 422


def test_integration_of_a_file_is_used_until_the_file_omits_it(api: Api, running: ApiSetup, named: Named) -> None:
    """Then Sidekey uses the stored integration with the same ID."""
    name, child = named("both"), running.child
    api.create("/integrations", {"id": name, **basic(running.upstream)})
    auth = "{type: basic, username: svc, password: {insecure_value: of-the-file}}"
    stanza = f"  {name}: {{endpoint_prefix: 'http://127.0.0.1:{running.upstream}/file', auth: {auth}}}\n"
    with rewritten(child, child.config.read_text() + stanza):
        wait_until(lambda: api.get(f"/integrations/{name}")["status"] == "unusable")
        response = get(child.proxy_port, f"/i/{name}/x", TOKEN).body
        assert "GET /file/x\nauthorization: Basic c3ZjOm9mLXRoZS1maWxl" in response
        shown = api.get(f"/integrations/{name}")
        assert (shown["source"], shown["version"], shown["status"]) == ("store", 1, "unusable")
        assert shown["problem"] == (
            "a config file has the same integration ID, and is used instead: remove it there to use this one"
        )
        assert api.request("POST", "/integrations", {"id": name, **basic(running.upstream)}).code == "exists"
    wait_until(lambda: api.get(f"/integrations/{name}")["status"] == "ok")
    assert "GET /v1/x\nauthorization: Basic" in get(child.proxy_port, f"/i/{name}/x", TOKEN).body
    assert api.get(f"/integrations/{name}")["version"] == 1


def test_list_is_searched_filtered_and_in_pages_of_50(editor: Api, running: ApiSetup, named: Named) -> None:
    """The list is sorted by ID, and `next` leads to the next page."""
    word = named("page")
    for number in range(51):
        document = {"id": f"{word}-{number:02}", "tags": [word], **basic(running.upstream)}
        editor.create("/integrations", {**document, "description": f"Number {number}"})
    first = editor.get(f"/integrations?tag={word}")
    assert [item["id"] for item in first["items"]] == [f"{word}-{number:02}" for number in range(50)]
    second = editor.get(f"/integrations?tag={word}&after={first['next']}")
    assert ([item["id"] for item in second["items"]], second["next"]) == ([f"{word}-50"], None)

    def ids_of(query: str) -> list[str]:
        return [item["id"] for item in editor.get(f"/integrations?{query}")["items"]]

    assert ids_of(f"q=nUMBER%2049&tag={word}") == [f"{word}-49"]
    assert ids_of("kind=headers&q=of-a-file") == ["of-a-file"]
    assert ids_of(f"status=unusable&tag={word}") == []
    assert len(ids_of(f"status=ok&tag={word}")) == 50


def test_secret_of_a_list_is_replaced_without_the_others(editor: Api, running: ApiSetup, named: Named) -> None:
    """To rotate a secret, an operator adds the new one first and removes the old one later."""
    name = named("hooks")
    auth = {"type": "signature", "scheme": "custom", "signed": "{body}", "headers": {"Authorization": "{signatures}"}}
    document = {"endpoint_prefix": f"http://127.0.0.1:{running.upstream}", "auth": {**auth, "secret": {"value": "old"}}}

    def signed() -> list[str]:
        body = get(running.child.proxy_port, f"/i/{name}/x", TOKEN).body
        return re.search("authorization: (.*)", body)[1].split(",")  # type: ignore[index]

    old, new = (hmac.new(key, b"", "sha256").hexdigest() for key in (b"old", b"new"))
    shown = editor.create("/integrations", {"id": name, **document})
    assert signed() == [old]
    shown["auth"]["secret"] = [{"value": "new"}, shown["auth"]["secret"]]
    shown = editor.request("PUT", f"/integrations/{name}", shown, match='"1"').json
    assert [secret["set"] for secret in shown["auth"]["secret"]] == [True, True]
    assert signed() == [new, old]
    shown["auth"]["secret"].reverse()
    shown = editor.request("PUT", f"/integrations/{name}", shown, match='"2"').json
    assert signed() == [old, new]
    stored = {"set": True, "id": shown["auth"]["secret"][1]["id"]}
    shown["auth"]["secret"] = [{"value": "third"}, shown["auth"]["secret"][1]]
    shown = editor.request("PUT", f"/integrations/{name}", shown, match='"3"').json
    assert signed()[1] == new
    twice = {**shown["auth"], "secret": [stored, stored, {"set": True, "id": "s_1"}]}
    refused = editor.request("PUT", f"/integrations/{name}", {**shown, "auth": twice}, match='"4"')
    assert (refused.status, [error["pointer"] for error in refused.json["errors"]]) == (
        422,
        ["/auth/secret/1", "/auth/secret/2"],
    )
    changes = editor.get(f"/integrations/{name}/activity")["items"]
    assert changes[0]["fields"][0] == "/auth/secret"
    assert "/auth/secret/0" in changes[2]["fields"]
    elsewhere = editor.request("PATCH", f"/integrations/{name}", {"endpoint_prefix": "https://a.example"}, match='"4"')
    assert (elsewhere.json["code"], [error["pointer"] for error in elsewhere.json["errors"]]) == (
        "reenter",
        ["/auth/secret/0", "/auth/secret/1"],
    )


def test_stored_address_that_the_operator_does_not_allow_is_denied(
    editor: Api, running: ApiSetup, named: Named
) -> None:
    """Sidekey saves the integration, denies its requests, and explains what the operator must allow."""
    name = named("private")
    editor.create("/integrations", {"id": name, **basic(running.upstream), "endpoint_prefix": "http://10.0.0.5/v1"})
    response = get(running.child.proxy_port, f"/i/{name}/x", TOKEN)
    assert (response.status, json.loads(response.body)["code"]) == (403, "destination_denied")
    explained = editor.request("POST", f"/integrations/{name}/explain", {"url": "/x"}).json
    assert (explained["allowed"], explained["code"], explained["credential"]) == (False, "destination_denied", None)
    assert explained["reason"] == (
        "10.0.0.5 is not a global address (private): the operator must add 10.0.0.5/32 to store.allow_private"
    )


@pytest.mark.parametrize("path", ["/v1/*", "/users/{id}", "/a}"])
def test_wildcard_or_placeholder_in_prefix_is_refused(path: str, editor: Api, running: ApiSetup, named: Named) -> None:
    """Saving and preview have the same error."""
    document = {"id": named("pattern"), **basic(running.upstream), "endpoint_prefix": f"https://api.example.com{path}"}
    for path_of_api in ("/integrations", "/drafts/integration/preview"):
        errors = editor.request("POST", path_of_api, document).json["errors"]
        (detail,) = [error["detail"] for error in errors if error["pointer"] == "/endpoint_prefix"]
        assert detail.startswith("must not contain *, { or }: a prefix is the fixed beginning of a URL")


def test_http_token_endpoint_needs_an_allowed_address(editor: Api, running: ApiSetup, named: Named) -> None:
    """The API accepts every loopback address. Sidekey dials only those in `store.allow_private`, here 127.0.0.0/8."""

    def save(name: str, host: str) -> set[str]:
        """Return the errors of the token endpoint; with none, the integration is saved with a warning."""
        auth = {"type": "oauth2", "token_endpoint": f"http://{host}/token", "client_id": "id"}
        document = {"id": name, "auth": {**auth, "client_secret": {"value": "s3cret"}}}
        preview = editor.request("POST", "/drafts/integration/preview", document).json
        errors, warnings = (
            {error["detail"] for error in preview[key] if error["pointer"] == "/auth/token_endpoint"}
            for key in ("errors", "warnings")
        )
        assert editor.request("POST", "/integrations", document).status == (422 if errors else 201)
        assert errors or warnings == {"the client's secret and the token travel in the clear: for tests only"}
        return errors

    def reason(name: str) -> str:
        """Return why there is no token."""
        problem = json.loads(get(running.child.proxy_port, f"/i/{name}/x", TOKEN).body)
        assert problem["code"] == "credential_unavailable"
        return str(problem["detail"])

    allowed, denied = named("allowed"), named("denied")
    assert save(denied, "10.0.0.5") == {"must be an https URL: the secret would travel in the clear (RFC 6749 3.2)"}
    assert save(denied, "[::1]:9") == save(allowed, "127.0.0.1:9") == set()
    assert "only addresses that may not be dialled (not global unicast)" in reason(denied)
    assert "it refused the connection" in reason(allowed)


def test_certificate_of_an_unknown_version_is_refused(editor: Api, named: Named) -> None:
    """The error says that the certificate is damaged."""
    issued = issue("client.example")
    version_3, version_4 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"
    assert version_3 in issued.der
    pem = ssl.DER_cert_to_PEM_cert(issued.der.replace(version_3, version_4, 1))
    auth = {"type": "mtls", "certificate": {"inline": pem}, "private_key": {"value": issued.key_pem.decode()}}
    response = editor.request("POST", "/integrations", {"id": named("damaged"), **basic(1), "auth": auth})
    assert (response.status, response.code, response.pointers) == (422, "invalid", {"/auth/certificate"})
    assert "is damaged" in response.json["errors"][0]["detail"]


def test_denied_host_is_a_warning_on_saving_and_failing_after_a_test(editor: Api, named: Named) -> None:
    """Both name the reason. The warning is only in responses to changes, also to one that changes nothing."""
    name, prefix = named("private"), "http://10.1.2.3"
    document = {**basic(1), "endpoint_prefix": prefix, "test": {"method": "GET", "path": "/"}}
    created = editor.request("POST", "/integrations", {"id": name, **document})
    (warning,) = created.json["warnings"]
    assert (created.status, created.json["status"]) == (201, "ok")
    assert warning.startswith(f"`endpoint_prefix`: requests to {prefix} are denied now: ")
    assert "warnings" not in editor.get(f"/integrations/{name}")
    assert editor.request("PATCH", f"/integrations/{name}", {}, match="*").json["warnings"] == [warning]
    assert editor.request("PUT", f"/integrations/{name}", {**created.json, "title": "x"}, match="*").status == 200
    wait_until(lambda: editor.request("POST", f"/integrations/{name}/test").json.get("code") == "destination_denied")
    shown = editor.get(f"/integrations/{name}")
    assert (shown["status"], "`store.allow_private`" in shown["problem"]) == ("failing", True)


def test_preview_warns_of_a_denied_address(editor: Api) -> None:
    """A preview looks up no names: it follows what somebody types."""

    def warnings(prefix: str) -> list[str]:
        preview = editor.request("POST", "/drafts/integration/preview", {**basic(1), "endpoint_prefix": prefix})
        return [warning["pointer"] for warning in preview.json["warnings"]]

    assert warnings("https://10.1.2.3") == ["/endpoint_prefix"]
    assert warnings("https://nowhere.invalid") == []
