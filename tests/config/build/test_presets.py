"""Presets of a config: building, checks with their integration, and reuse at a reload."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.config.build.presets import PresetChecker, broken_presets, document_json, mismatch_errors, pairing_errors
from sidekey.config.load import Loader, load
from sidekey.snapshot.snapshot import Snapshot
from support.loading import loaded_snapshot
from support.plane import base_url, integration
from support.presets import preset, refused
from support.signing import HmacSigner, signing_integration
from support.statuses import with_certificate
from support.unresolved import UnresolvedIntegration

CRM = "crm: {endpoint_prefix: https://crm.example.com/v1, auth: {type: headers, headers: {X-Tenant: acme}}}"
MOVED = CRM.replace("/v1", "/v2")
HOOK = "hook: {integration: crm, url: https://crm.example.com/v1/hook, content_type: text/plain}"
OTHER = HOOK.replace("hook:", "other:")


PARAMETERS = {"parameters": {"id": {"type": "text"}}, "body": {"json": {"id": "{{id}}"}}}


def write(folder: Path, *presets: str, crm: str = CRM, top: str = "") -> None:
    """Write a config file."""
    lines = "".join(f"  {line}\n" for line in presets)
    (folder / "sidekey.yaml").write_text(f"version: 1\n{top}integrations:\n  {crm}\npresets:\n{lines}")


def loader(folder: Path) -> Loader:
    return Loader(folder, {})


def snapshot_of(folder: Path) -> Snapshot:
    return loaded_snapshot(load(folder, {}))


def test_preset_has_the_values_of_its_mapping(tmp_path: Path) -> None:
    write(tmp_path, HOOK.replace("text/plain}", "text/plain, description: A hook, tags: [a], method: PUT}"))
    preset = snapshot_of(tmp_path).presets["hook"]
    assert (preset.id, preset.url, preset.content_type) == ("hook", "https://crm.example.com/v1/hook", "text/plain")
    assert (preset.description, preset.tags, preset.invalid) == ("A hook", ("a",), "")
    assert (preset.rules.id, preset.rules.integration, preset.rules.method) == ("hook", "crm", b"PUT")
    assert preset.rules.fixed_url == b"https://crm.example.com/v1/hook"


def test_preset_may_be_in_any_file_but_an_id_only_in_one(tmp_path: Path) -> None:
    write(tmp_path, HOOK)
    (tmp_path / "a.yaml").write_text(f"version: 1\npresets:\n  {OTHER}\n")
    assert set(snapshot_of(tmp_path).presets) == {"hook", "other"}
    (tmp_path / "a.yaml").write_text(f"version: 1\npresets:\n  {HOOK}\n")
    (error,) = load(tmp_path, {}).errors
    assert error.message == f"this is already in {tmp_path / 'a.yaml'}:3: remove one"
    (tmp_path / "a.yaml").write_text("version: 1\npresets: []\n")
    assert [error.message for error in load(tmp_path, {}).errors] == ["must be a mapping"]


def test_unchanged_preset_is_the_same_object(tmp_path: Path) -> None:
    write(tmp_path, HOOK, OTHER)
    loading = loader(tmp_path)
    first = loaded_snapshot(loading.load())
    write(tmp_path, HOOK, OTHER.replace("/hook", "/new"))
    second = loaded_snapshot(loading.load())
    assert second.presets["hook"] is first.presets["hook"]
    assert second.presets["other"] is not first.presets["other"]
    assert second.presets["other"].rules.fixed_url == b"https://crm.example.com/v1/new"


def test_change_of_the_integration_makes_a_preset_invalid_until_it_fits_again(tmp_path: Path) -> None:
    """The config is in use all the same, with a finding at the preset."""
    write(tmp_path, HOOK)
    loading = loader(tmp_path)
    first = loaded_snapshot(loading.load())
    write(tmp_path, HOOK, crm=MOVED)
    loaded = loading.load()
    second = loaded_snapshot(loaded)
    reason = "must be allowed by integration crm: the target is not under any endpoint prefix"
    assert second.presets["hook"].invalid == reason
    assert second.presets["hook"].rules is first.presets["hook"].rules
    assert [str(error) for error in loaded.of("mismatched")] == [
        f"{tmp_path / 'sidekey.yaml'}:5:33: presets.hook.url: {reason}"
    ]
    write(tmp_path, HOOK)
    third = loading.load()
    assert loaded_snapshot(third).presets["hook"] is first.presets["hook"]
    assert third.of("mismatched") == []


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ({}, []),
        ({"url": base_url(1, "/apix")}, [("url",)]),
        ({"url": base_url(1, "/api/../x")}, [("url",)]),
        ({"url": "https://other.test/api"}, [("url",)]),
        ({"url": base_url(1, "/api/token")}, [("url",)]),
        ({"method": "PUT"}, [("method",)]),
        ({"headers": {"x_tenant": "a", "X-Other": "b"}}, [("headers", "x_tenant")]),
        ({"headers": {"X-HTTP-Method-Override": "PUT"}}, [("headers", "X-HTTP-Method-Override")]),
        ({"url": base_url(1, "/{{a}}"), "parameters": {"a": {"type": "text"}}, "body": {"json": {}}}, [("url",)]),
        ({"url": base_url(1, "/api/{{a}}"), "parameters": {"a": {"type": "text"}}, "body": {"json": {}}}, []),
    ],
)
def test_preset_must_fit_its_integration(keys: dict[str, object], places: list[tuple[str, ...]]) -> None:
    """URL, method, and no header that the credential brings."""
    built = integration(
        "h",
        base_url(1),
        forbidden=[(base_url(1, ""), "/api/token")],
        methods=["POST"],
        headers=(("X-Tenant", "acme"),),
    )
    assert [loc for loc, _ in mismatch_errors(preset(**keys), built)] == places  # type: ignore[arg-type]


def test_preset_without_its_integration_is_invalid() -> None:
    """With an unresolved integration it is not: its target is checked later."""
    hook = preset()
    assert mismatch_errors(hook, None) == [(("integration",), "no integration has this ID")]
    missing = UnresolvedIntegration(integration("h", base_url(1)))
    assert mismatch_errors(hook, missing.integration()) == []
    assert PresetChecker()({"hook": hook}, {"h": missing.integration()})["hook"] is hook
    assert PresetChecker()({"hook": hook}, {})["hook"].invalid == "no integration has this ID"


def test_only_changed_presets_are_checked_again() -> None:
    """There may be ten thousand. Unchanged ones are the same objects, even if invalid."""
    check = PresetChecker()
    built, other = integration("h", base_url(1)), integration("h", base_url(1, "/other"))
    hooks = {"fits": preset("fits"), "outside": preset("outside", base_url(1, "/other"))}
    first = check(hooks, {"h": built})
    assert (first["fits"] is hooks["fits"], bool(first["outside"].invalid)) == (True, True)
    assert check(hooks, {"h": built})["outside"] is first["outside"]
    assert check({"outside": hooks["outside"]}, {"h": other})["outside"] is hooks["outside"]
    again = check(hooks, {"h": other})
    assert (bool(again["fits"].invalid), again["outside"].invalid) == (True, "")
    # What is invalid by itself is not told more.
    invalid = replace(hooks["fits"], invalid="why")
    assert check({"fits": invalid}, {})["fits"] is invalid


def test_broken_presets_are_those_that_fit_now() -> None:
    """By ID with the reasons, and only those of this integration."""
    hooks = {"fits": preset("fits"), "torn": replace(preset("torn"), invalid="why")}
    assert broken_presets(integration("h", base_url(1)), hooks) == {}
    assert broken_presets(integration("other", base_url(1, "/other")), hooks) == {}
    ((name, (reason,)),) = broken_presets(integration("h", base_url(1, "/other")), hooks).items()
    assert (name, reason.startswith("must be allowed by integration h")) == ("fits", True)


def test_document_keeps_its_keys_and_their_order(tmp_path: Path) -> None:
    write(tmp_path, HOOK)
    preset = loaded_snapshot(load(tmp_path, {})).presets["hook"]
    document = json.loads(preset.document)
    assert document["integration"] == "crm"
    assert document_json(document) == preset.document
    assert not preset.stored


def test_unusable_integration_cannot_be_chosen() -> None:
    missing = UnresolvedIntegration(integration("h", base_url(1)))
    reason = "integration h cannot be used now: see its own errors"
    assert pairing_errors(preset(), missing.integration(), 0.0) == [(("integration",), reason)]
    assert pairing_errors(preset(), integration("h", base_url(1)), 0.0) == []


def test_integration_with_an_expired_certificate_cannot_be_chosen() -> None:
    ending = with_certificate(integration("h", base_url(1)), 1000.0)
    reason = "integration h cannot be used now: see its own errors"
    assert pairing_errors(preset(), ending, 999.0) == []
    assert pairing_errors(preset(), ending, 1000.0) == [(("integration",), reason)]


def test_caller_has_listed_all_or_no_presets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    for number in range(3):
        (tmp_path / f"token{number}").write_text(f"token{number}")
    top = (
        "callers:\n  one: {token: {file: token0}, presets: [hook]}\n  all: {token: {file: token1}, presets: '*'}\n"
        "  none: {token: {file: token2}, integrations: '*'}\n"
    )
    write(tmp_path, HOOK, OTHER, top=top)
    callers = snapshot_of(tmp_path).callers
    assert callers is not None
    assert {caller.name: (caller.may_send("hook"), caller.may_send("other")) for caller in callers.values()} == {
        "one": (True, False),
        "all": (True, True),
        "none": (False, False),
    }
    assert all(caller.may_use("crm") is (caller.name == "none") for caller in callers.values())


def test_preset_of_an_unknown_integration_is_a_warning_with_a_store(tmp_path: Path) -> None:
    """It is invalid until the integration is created."""
    (tmp_path / "k1").write_text("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    top = "store: {path: s.db, keys: [{id: k1, key: {file: k1}}]}\n"
    write(tmp_path, HOOK.replace("integration: crm", "integration: later"), top=top)
    loaded = load(tmp_path, {})
    text = "no file has an integration with this ID: create it in the store"
    assert [(warning.path, warning.message) for warning in loaded.warnings if warning.path.startswith("presets")] == [
        ("presets.hook.integration", text)
    ]
    assert loaded_snapshot(loaded).presets["hook"].invalid == "no integration has this ID"


def test_every_key_is_checked_beside_invalid_ones() -> None:
    assert refused(url=7, body={"json": {"a": "{{b}}"}}) == [
        ("url", "must be a text: put numbers, true, false and null in quotes"),
        ("body.json.a", "{{b}} must name a parameter: add the parameter, or remove the placeholder"),
    ]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"body": "must have exactly one of json, form and text"}),
        ({"content_type": "text/plain"}, {"body": "must have exactly one of json, form and text"}),
        ({"json": 1, "text": "x"}, {"body": "must have exactly one of json, form and text"}),
        ({"text": "x"}, {"body.text": "needs content_type beside it, such as text/plain"}),
        ({"json": 1, "content_type": "a/b"}, {"body.content_type": "may be used only with text"}),
        ({"form": {}, "content_type": "a/b"}, {"body.content_type": "may be used only with text"}),
        ({"json": {"{{x}}": 1}}, {"body.json.{{x}}": "a key must not contain {{"}),
        (
            {"form": {"a": "{{x}}"}},
            {"body.form.a": "{{x}} must name a parameter: add the parameter, or remove the placeholder"},
        ),
        ({"text": None}, {"body.text": "must be a text: put numbers, true, false and null in quotes"}),
        ({"form": []}, {"body.form": "must be a mapping of fields to texts, numbers, true or false"}),
        ({"xml": "<a/>"}, {"body.xml": "unknown key; known: json, form, text, content_type"}),
        (
            {"text": "<a/>", "content_type": 'text/xml;Charset="us-ascii"'},
            {"body.content_type": "the charset must be utf-8, in which a body is written"},
        ),
        ({"text": "<a", "content_type": "text/xml"}, {"body.text": "must be well-formed XML with one root element"}),
    ],
)
def test_body_has_exactly_one_kind(body: dict[str, object], errors: dict[str, str]) -> None:
    assert dict(refused(body=body)) == errors


def test_json_body_may_be_null() -> None:
    assert refused(body={"json": None}) == []


def test_content_type_is_only_for_a_preset_without_a_body() -> None:
    assert refused(content_type="text/xml; charset=latin1") == []
    text = "must be left out: the body has its own type"
    assert refused(content_type="a/b", body={"json": 1}) == [("content_type", text)]
    assert refused(content_type="json") == [("content_type", "must be a media type, such as application/json")]


@pytest.mark.parametrize(
    ("parameter", "errors"),
    [
        ({"type": "text", "format": "phone", "title": "User", "help": "A number", "example": "4711"}, {}),
        ({"type": "number", "enum": [1, 2.5], "default": 2.5, "example": 1}, {}),
        ({"type": "boolean", "default": False, "example": True}, {}),
        ({"type": "text", "max_length": 3, "enum": ["abcd"]}, {"enum.0": "must have at most 3 characters"}),
        ({"type": "text", "default": 7, "example": []}, {"default": "must be a text", "example": "must be a text"}),
        (
            {"type": "number", "default": "1", "enum": [True]},
            {"default": "must be a number, such as 12.50", "enum.0": "must be a number, such as 12.50"},
        ),
        ({"type": "number", "default": float("inf")}, {"default": "must be a number, such as 12.50"}),
        (
            {"type": "number", "enum": [1], "example": 2},
            {"example": "must be one of 1"},
        ),
        (
            {"type": "number", "max_length": 3, "format": "url"},
            {"max_length": "may be used only with type text", "format": "may be used only with type text"},
        ),
        ({"type": "boolean", "enum": [True]}, {"enum": "may be used only with type text or number"}),
        ({"type": "text", "format": "date"}, {"format": "must be 'textarea', 'email', 'url' or 'phone'"}),
        ({"type": "list"}, {"type": "must be 'text', 'number' or 'boolean'"}),
    ],
)
def test_keys_of_a_parameter_fit_its_type(parameter: dict[str, object], errors: dict[str, str]) -> None:
    result = refused(parameters={"p": parameter}, body={"json": 1})
    assert {place.removeprefix("parameters.p."): message for place, message in result} == errors


def test_preset_cannot_set_a_header_that_the_signature_writes() -> None:
    """Except one that the signature keeps, such as the ID of a message."""
    built = signing_integration(HmacSigner())
    errors = mismatch_errors(preset(headers={"X_Signature": "forged", "X-Id": "{{id}}"}, **PARAMETERS), built)
    assert errors == [(("headers", "X_Signature"), "integration h brings this header: remove it")]
