"""Makes presets of their settings, and judges whether they belong to their integrations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from sidekey.core.headers import METHOD_OVERRIDES, REQUEST_ROLES, TARGET_FIELDS, Role
from sidekey.core.policy import decide
from sidekey.core.preset_parameters import DEPTH, Parameter
from sidekey.core.presets import BodyRules, HeaderTemplate, Preset
from sidekey.core.templates import (
    Findings,
    InvalidTemplate,
    Template,
    UrlTemplate,
    body_template,
    check_names,
    header_written,
    is_utf_8,
    parse,
    plain_value,
)
from sidekey.credentials.fields import check_header_value, normal_name, wire
from sidekey.runtime import snapshot
from sidekey.runtime.standing import standing_of
from sidekey.settings.config_errors import Finding, Loc
from sidekey.settings.models import ParameterSettings, PresetSettings
from sidekey.settings.release_gradually import release_gradually
from sidekey.settings.translate import findings_of

_PAYLOAD_HEADERS = {
    "content-type": "write content_type instead: the body's type is a key of its own",
    "content-encoding": "may not be set: a body of the preset has no coding, a payload comes with its own",
}


_STAND_INS = {"integration": "integration", "url": "https://host.invalid", "content_type": "application/json"}
"""For required keys that are invalid, so that the others are checked all the same."""


class Built(NamedTuple):
    """A preset, None where it has errors, and those."""

    preset: snapshot.Preset | None
    errors: tuple[Finding, ...]


def read_preset(name: str, raw: Mapping[str, Any]) -> Built:
    """A preset of its mapping. Whether it belongs to its integration is not judged here."""
    try:
        return _build(name, PresetSettings.model_validate(raw))
    except ValidationError as error:
        found = findings_of(error, PresetSettings, lambda _: raw)
        invalid = {str(details["loc"][0]) for details in error.errors(include_url=False, include_input=False)}
    return Built(None, (*found, *_further(name, raw, invalid)))


def _further(name: str, raw: Mapping[str, Any], invalid: set[str]) -> Iterator[Finding]:
    """What is wrong with the other keys of a preset, where some are invalid by themselves."""
    if "parameters" in invalid:
        return
    kept = {key: value for key, value in raw.items() if key not in invalid}
    dependent = {"body"} if "content_type" in invalid else set()
    for each in _build(name, PresetSettings.model_validate({**_STAND_INS, **kept})).errors:
        if each.loc[0] not in invalid | dependent:
            yield each


def written(document: Mapping[str, Any]) -> str:
    """A preset's document as JSON, its keys in the order in which they are written: a body's are sent so."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _build(name: str, settings: PresetSettings) -> Built:
    errors: list[Finding] = []
    parameters = _parameters(settings, errors)
    if settings.body is None and settings.parameters:
        text = "needs body: without one the caller's payload goes through, and brings no parameters"
        errors.append(Finding(("parameters",), text, key=True))
    url: UrlTemplate | None = None
    try:
        url = UrlTemplate.read(settings.url, parameters)
    except InvalidTemplate as error:
        errors.append(Finding(("url",), str(error)))
    headers = _headers(settings, parameters, errors)
    body: BodyRules | None = None
    if settings.body is not None:
        if not is_utf_8(settings.content_type):
            errors.append(Finding(("content_type",), "the charset must be utf-8, in which a body is written"))
        found: Findings = []
        template = body_template(settings.content_type, settings.body, parameters, found)
        errors += [Finding(("body", *place), message) for place, message in found]
        body = None if template is None else BodyRules(template, parameters)
    if errors or url is None:
        return Built(None, tuple(errors))
    rules = Preset(name, settings.integration, settings.method, url, settings.content_type, headers, body)
    preset = snapshot.Preset(
        id=name,
        rules=rules,
        url=settings.url,
        content_type=settings.content_type,
        description=settings.description,
        tags=tuple(settings.tags),
    )
    return Built(preset, ())


def _parameters(settings: PresetSettings, errors: list[Finding]) -> dict[str, Parameter]:
    found = {}
    for name, each in settings.parameters.items():
        place: Loc = ("parameters", name)
        errors += [Finding((*place, *loc), message) for loc, message in _combined(each)]
        try:
            one_of = tuple(_value(value) for value in each.one_of or ())
            default = None if each.default is None else _value(each.default)
        except ValueError as error:
            errors.append(Finding(place, str(error)))
            continue
        plain = Parameter(name, each.type, max_length=each.max_length or 0)
        for index, value in enumerate(one_of):
            reason = plain.error(value)
            if reason is not None:
                errors.append(Finding((*place, "one_of", index), reason))
        parameter = Parameter(name, each.type, default, max_length=each.max_length or 0, one_of=one_of)
        reason = None if default is None else parameter.error(default)
        if reason is not None:
            errors.append(Finding((*place, "default"), reason))
        found[name] = parameter
    return found


def _combined(settings: ParameterSettings) -> list[tuple[Loc, str]]:
    """Errors between the keys of a parameter."""
    found: list[tuple[Loc, str]] = []
    if settings.required is True and settings.default is not None:
        found.append((("required",), "must not be true with a default: remove one of the two"))
    if settings.required is False and settings.default is None:
        found.append((("required",), "may be false only with a default: add it, or remove this key"))
    if settings.max_length is not None and settings.type not in ("text", "list"):
        found.append((("max_length",), "may be used only with type text or list"))
    if settings.one_of is not None and settings.type not in ("text", "integer", "number"):
        found.append((("one_of",), "may be used only with type text, integer or number"))
    return found


def _value(written: object, depth: int = 1) -> object:
    """A value of a document as parameters have them. Raises ValueError."""
    if depth > DEPTH:
        raise ValueError(f"must not be nested deeper than {DEPTH} levels")
    if isinstance(written, dict):
        return {str(key): _value(each, depth + 1) for key, each in written.items()}
    if isinstance(written, list):
        return [_value(each, depth + 1) for each in written]
    return written if written is None or isinstance(written, str) else plain_value(written)


def _headers(
    settings: PresetSettings, parameters: Mapping[str, Parameter], errors: list[Finding]
) -> list[HeaderTemplate]:
    found = []
    seen: dict[str, str] = {}
    for name, value in settings.headers.items():
        place: Loc = ("headers", name)
        normal = normal_name(name)
        other = seen.setdefault(normal, name)
        if normal in _PAYLOAD_HEADERS:
            errors.append(Finding(place, _PAYLOAD_HEADERS[normal], key=True))
        if normal == "proxy-authorization":
            errors.append(Finding(place, "may not be set: write it as a secret header of the integration", key=True))
        if REQUEST_ROLES.get(normal.encode()) == Role.DROP:
            errors.append(Finding(place, "may not be set: no caller may send this header", key=True))
        if other != name:
            errors.append(Finding(place, f"is the same header as {other} (case and _ do not count)", key=True))
        try:
            text = parse(value)
            check_names(text, parameters)
            for literal in text.literals:
                header_written(literal)
            check_header_value("x".join(text.literals))
        except ValueError as error:
            errors.append(Finding(place, str(error)))
            continue
        spelled = text._replace(literals=[wire(literal) for literal in text.literals])
        found.append(HeaderTemplate(name, Template.of(spelled, header_written)))
    return found


def mismatches(preset: snapshot.Preset, integration: snapshot.Integration | None) -> list[tuple[Loc, str]]:
    """Why a preset cannot be used with its integration: what an integration's change may bring about."""
    if integration is None:
        return [(("integration",), "no integration has this ID")]
    found: list[tuple[Loc, str]] = []
    if integration.rebuild is None:
        spelling = integration.traits.spelling
        spell = None if spelling is None else spelling.spell
        decision = decide(integration.policy, preset.rules.method.decode(), preset.rules.sample, spell)
        if not decision.allowed:
            key = "method" if decision.code == "method_denied" else "url"
            found.append(((key,), f"must be allowed by integration {integration.id}: {decision.reason}"))
    injected = {normal_name(name) for name in integration.traits.places.headers}
    signing = integration.traits.signing
    if signing is not None:
        injected |= {name.decode() for name in signing.names - signing.kept}
    for name in preset.rules.header_names:
        if normal_name(name) in injected:
            found.append((("headers", name), f"integration {integration.id} brings this header: remove it"))
        elif integration.policy.methods is not None and normal_name(name).encode() in METHOD_OVERRIDES:
            found.append((("headers", name), f"integration {integration.id} has methods, which this would get around"))
        elif normal_name(name).encode() in TARGET_FIELDS - integration.pass_headers:
            way_out = f"integration {integration.id} drops this header: remove it, or list it there in pass_headers"
            found.append((("headers", name), way_out))
    return found


def choice_errors(
    preset: snapshot.Preset, integration: snapshot.Integration, now: float, *, require_fetched: bool = False
) -> list[tuple[Loc, str]]:
    """Why an integration cannot be chosen for a preset at `now` (seconds since the epoch).

    Also where it cannot be used itself, such as one whose client certificate has ended since it was read. A process
    that fetches certificates sets `require_fetched`; a load and a command see each certificate before its first fetch.
    """
    found = mismatches(preset, integration)
    standing = standing_of(integration, now)
    if not standing.usable and (require_fetched or standing.state != "not_fetched"):
        found.append((("integration",), f"integration {integration.id} cannot be used now: see its own errors"))
    return found


def left_behind(integration: snapshot.Integration, presets: Mapping[str, snapshot.Preset]) -> dict[str, list[str]]:
    """The presets that can be used now, and could not be with their integration as it would be; and why, by ID."""
    found = {
        name: [text for _, text in mismatches(preset, integration)]
        for name, preset in sorted(presets.items())
        if preset.rules.integration == integration.id and not preset.invalid
    }
    return {name: reasons for name, reasons in found.items() if reasons}


class _Judged(NamedTuple):
    """What came of a preset beside an integration."""

    preset: snapshot.Preset
    integration: snapshot.Integration | None
    result: snapshot.Preset


class PresetJudge:
    """Judges presets beside integrations, each again only where it or its integration is another than before."""

    def __init__(self) -> None:
        self._known: dict[str, _Judged] = {}

    def __call__(
        self, presets: Mapping[str, snapshot.Preset], integrations: Mapping[str, snapshot.Integration]
    ) -> dict[str, snapshot.Preset]:
        """The presets beside these integrations; one that belongs to its own is the same object."""
        before, known = self._known, {}
        for name, preset in presets.items():
            integration = integrations.get(preset.rules.integration)
            former = before.get(name)
            if former is None or former.preset is not preset or former.integration is not integration:
                former = _Judged(preset, integration, _judged(preset, integration))
            known[name] = former
        self._known = known
        release_gradually(before)
        return {name: each.result for name, each in known.items()}


def _judged(preset: snapshot.Preset, integration: snapshot.Integration | None) -> snapshot.Preset:
    """A preset beside its integration; one that is invalid by itself stays so."""
    if preset.invalid:
        return preset
    reasons = mismatches(preset, integration)
    return replace(preset, invalid="; ".join(text for _, text in reasons)) if reasons else preset
