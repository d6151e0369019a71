"""Build presets from their settings, and check that they fit their integrations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError

from sidekey.config.errors import Finding, Loc
from sidekey.config.models import BodySettings, ParameterSettings, PresetSettings
from sidekey.config.pydantic_errors import findings_of
from sidekey.credentials.context import Context
from sidekey.credentials.fields import check_header_value, normal_name, wire
from sidekey.policy.headers import METHOD_OVERRIDES, REQUEST_ROLES, TARGET_FIELDS, Role
from sidekey.policy.parameters import FORM, JSON
from sidekey.policy.targets import decide
from sidekey.presets.preset import HeaderTemplate, Parameter, Preset
from sidekey.presets.template import (
    Findings,
    InvalidTemplate,
    ParsedText,
    Template,
    UrlTemplate,
    as_header,
    form_template,
    json_template,
    parameters_of,
    parse,
    text_template,
)
from sidekey.snapshot import snapshot
from sidekey.snapshot.status import status_of

_PAYLOAD_HEADERS = {
    "content-type": "may not be set: write content_type, or a body, which has its own type",
    "content-encoding": "may not be set: a body of the preset has no coding, a payload comes with its own",
}

_STAND_INS = {"integration": "integration", "url": "https://host.invalid"}
"""For required keys that are invalid, so that the others are checked all the same."""


class Built(NamedTuple):
    """A preset, None where it has errors, and those."""

    preset: snapshot.Preset | None
    errors: tuple[Finding, ...]


def read_preset(name: str, raw: Mapping[str, Any]) -> Built:
    """Build a preset from its document, without checking that it fits its integration."""
    try:
        return _build(name, PresetSettings.model_validate(raw))
    except ValidationError as error:
        found = findings_of(error, PresetSettings, lambda _: raw, Context("file"))
        invalid = {str(details["loc"][0]) for details in error.errors(include_url=False, include_input=False)}
    return Built(None, (*found, *_further(name, raw, invalid)))


def _further(name: str, raw: Mapping[str, Any], invalid: set[str]) -> Iterator[Finding]:
    """Yield the errors of the keys that are valid by themselves, if others are not."""
    if "parameters" in invalid:
        return
    kept = {key: value for key, value in raw.items() if key not in invalid}
    for each in _build(name, PresetSettings.model_validate({**_STAND_INS, **kept})).errors:
        if each.loc[0] not in invalid:
            yield each


def written(document: Mapping[str, Any]) -> str:
    """A preset's document as JSON, its keys in the order in which they are written: a body's are sent so."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _build(name: str, settings: PresetSettings) -> Built:
    errors: list[Finding] = []
    parameters = _parameters(settings, errors)
    url: UrlTemplate | None = None
    try:
        url = UrlTemplate.read(settings.url, settings.parameters)
    except InvalidTemplate as error:
        errors.append(Finding(("url",), str(error)))
    headers = _headers(settings, errors)
    body: Template | None = None
    content_type = settings.content_type or ""
    if settings.body is not None:
        body, content_type = _body(settings.body, settings.parameters, errors)
        if settings.content_type is not None:
            errors.append(Finding(("content_type",), "must be left out: the body has its own type", key=True))
    elif settings.parameters:
        text = "needs body: without one the caller's payload goes through, and brings no parameters"
        errors.append(Finding(("parameters",), text, key=True))
    if errors or url is None:
        return Built(None, tuple(errors))
    rules = Preset(name, settings.integration, settings.method, url, content_type, headers, parameters, body)
    preset = snapshot.Preset(
        id=name,
        rules=rules,
        url=settings.url,
        content_type=content_type,
        title=settings.title,
        help=settings.help,
        description=settings.description,
        tags=tuple(settings.tags),
    )
    return Built(preset, ())


def _body(
    settings: BodySettings, parameters: Mapping[str, ParameterSettings], errors: list[Finding]
) -> tuple[Template | None, str]:
    """Return the template of a body and its Content-Type."""
    kinds = settings.model_fields_set - {"content_type"}
    content_type = settings.content_type
    if len(kinds) != 1:
        errors.append(Finding(("body",), "must have exactly one of json, form and text"))
        return None, ""
    if kinds == {"text"}:
        return _text_body(settings.text, content_type, parameters, errors)
    if content_type is not None:
        errors.append(Finding(("body", "content_type"), "may be used only with text", key=True))
    found: Findings = []
    if kinds == {"form"}:
        key, template, content_type = "form", form_template(settings.form, parameters, found), FORM
    else:
        key, template, content_type = "json", json_template(settings.json_, parameters, found), JSON
    errors += [Finding(("body", key, *place), message) for place, message in found]
    return template, content_type


def _text_body(
    text: str, content_type: str | None, parameters: Mapping[str, ParameterSettings], errors: list[Finding]
) -> tuple[Template | None, str]:
    if content_type is None:
        errors.append(Finding(("body", "text"), "needs content_type beside it, such as text/plain", key=True))
        return None, ""
    if any(each.startswith("charset=") and each != "charset=utf-8" for each in parameters_of(content_type)):
        errors.append(Finding(("body", "content_type"), "the charset must be utf-8, in which a body is written"))
    try:
        return text_template(content_type, text, parameters), content_type
    except InvalidTemplate as error:
        errors.append(Finding(("body", "text"), str(error)))
        return None, content_type


def _parameters(settings: PresetSettings, errors: list[Finding]) -> dict[str, Parameter]:
    found = {}
    for name, each in settings.parameters.items():
        place: Loc = ("parameters", name)
        errors += [Finding((*place, key), message) for key, message in _combined(each)]
        plain = Parameter(each.type, max_length=each.max_length or 0)
        enum = [_value(value) for value in each.enum or ()]
        for index, value in enumerate(enum):
            reason = plain.error(value)
            if reason is not None:
                errors.append(Finding((*place, "enum", index), reason))
        default = None if each.default is None else _value(each.default)
        parameter = Parameter(each.type, default, each.max_length or 0, enum)
        for key in ("default", "example"):
            value = getattr(each, key)
            reason = None if value is None else parameter.error(_value(value))
            if reason is not None:
                errors.append(Finding((*place, key), reason))
        found[name] = parameter
    return found


def _combined(settings: ParameterSettings) -> Iterator[tuple[str, str]]:
    """Yield errors between the keys of a parameter."""
    if settings.required is True and settings.default is not None:
        yield "required", "must not be true with a default: remove one of the two"
    if settings.required is False and settings.default is None:
        yield "required", "may be false only with a default: add it, or remove this key"
    if settings.type != "text":
        for key in ("max_length", "format"):
            if getattr(settings, key) is not None:
                yield key, "may be used only with type text"
    if settings.enum is not None and settings.type == "boolean":
        yield "enum", "may be used only with type text or number"


def _value(written: Any) -> Any:
    """Return a value of a document as callers' values are: numbers are decimals."""
    return Decimal(repr(written)) if isinstance(written, int | float) and not isinstance(written, bool) else written


def _headers(settings: PresetSettings, errors: list[Finding]) -> list[HeaderTemplate]:
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
            text = parse(value, settings.parameters)
            for literal in text.literals:
                as_header(literal)
            check_header_value("x".join(text.literals))
        except ValueError as error:
            errors.append(Finding(place, str(error)))
            continue
        spelled = ParsedText([wire(literal) for literal in text.literals], text.names)
        found.append(HeaderTemplate(name, Template.of(spelled, as_header)))
    return found


def mismatches(preset: snapshot.Preset, integration: snapshot.Integration | None) -> list[tuple[Loc, str]]:
    """Why a preset cannot be used with its integration: what an integration's change may bring about."""
    if integration is None:
        return [(("integration",), "no integration has this ID")]
    found: list[tuple[Loc, str]] = []
    if integration.rebuild is None:
        spelling = integration.traits.spelling
        spell = None if spelling is None else spelling.canonicalize
        decision = decide(integration.policy, preset.rules.method.decode(), preset.rules.sample, spell)
        if not decision.allowed:
            key = "method" if decision.code == "method_denied" else "url"
            found.append(((key,), f"must be allowed by integration {integration.id}: {decision.reason}"))
    injected = {normal_name(name) for name in integration.traits.injection_points.headers}
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
    standing = status_of(integration, now)
    ended = standing.expires_at is not None and standing.expires_at <= now
    certificate = integration.certificate
    waits = certificate is not None and certificate.not_fetched and integration.usable and not ended
    if not standing.usable and (require_fetched or not waits):
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
        return {name: each.result for name, each in known.items()}


def _judged(preset: snapshot.Preset, integration: snapshot.Integration | None) -> snapshot.Preset:
    """A preset beside its integration; one that is invalid by itself stays so."""
    if preset.invalid:
        return preset
    reasons = mismatches(preset, integration)
    return replace(preset, invalid="; ".join(text for _, text in reasons)) if reasons else preset
