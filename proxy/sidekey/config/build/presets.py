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
from sidekey.credentials.fields import check_header_value, encode_header_value, normal_name
from sidekey.policy.headers import METHOD_OVERRIDES, REQUEST_ROLES, TARGET_FIELDS, Role
from sidekey.policy.parameters import FORM, JSON
from sidekey.policy.targets import judge_url
from sidekey.presets.preset import HeaderTemplate, Parameter, PresetRules
from sidekey.presets.template import (
    Findings,
    InvalidTemplate,
    ParsedText,
    Template,
    UrlTemplate,
    as_header,
    content_type_parameters,
    form_template,
    json_template,
    parse,
    text_template,
)
from sidekey.snapshot import snapshot
from sidekey.snapshot.status import status_of

_PAYLOAD_HEADERS = {
    "content-type": "may not be set: write content_type, or a body, which has its own type",
    "content-encoding": "may not be set: a body of the preset has no coding, a payload comes with its own",
}

_DUMMY_VALUES = {"integration": "integration", "url": "https://host.invalid"}
"""Values for invalid required keys, so that the other keys are still checked."""


class ParsedPreset(NamedTuple):
    """A preset, or None and its errors."""

    preset: snapshot.Preset | None
    errors: tuple[Finding, ...]


def parse_preset(name: str, raw: Mapping[str, Any]) -> ParsedPreset:
    """Build a preset from its document. Do not check yet that it fits its integration."""
    try:
        return _build(name, PresetSettings.model_validate(raw))
    except ValidationError as error:
        findings = findings_of(error, PresetSettings, lambda _: raw, Context("file"))
        invalid = {str(details["loc"][0]) for details in error.errors(include_url=False, include_input=False)}
    return ParsedPreset(None, (*findings, *_other_errors(name, raw, invalid)))


def _other_errors(name: str, raw: Mapping[str, Any], invalid: set[str]) -> Iterator[Finding]:
    """Yield the errors between the valid keys, although other keys are `invalid`."""
    if "parameters" in invalid:
        return
    valid = {key: value for key, value in raw.items() if key not in invalid}
    for error in _build(name, PresetSettings.model_validate({**_DUMMY_VALUES, **valid})).errors:
        if error.loc[0] not in invalid:
            yield error


def document_json(document: Mapping[str, Any]) -> str:
    """Serialize a preset's document as JSON. Keep the order of keys: the preset sends its body in this order."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _build(name: str, settings: PresetSettings) -> ParsedPreset:
    errors: list[Finding] = []
    parameters = _build_parameters(settings, errors)
    url: UrlTemplate | None = None
    try:
        url = UrlTemplate.parse(settings.url, settings.parameters)
    except InvalidTemplate as error:
        errors.append(Finding(("url",), str(error)))
    headers = _build_headers(settings, errors)
    body: Template | None = None
    content_type = settings.content_type or ""
    if settings.body is not None:
        body, content_type = _build_body(settings.body, settings.parameters, errors)
        if settings.content_type is not None:
            errors.append(Finding(("content_type",), "must be left out: the body has its own type", at_key=True))
    elif settings.parameters:
        text = "needs body: without one the caller's payload goes through, and brings no parameters"
        errors.append(Finding(("parameters",), text, at_key=True))
    if errors or url is None:
        return ParsedPreset(None, tuple(errors))
    rules = PresetRules(name, settings.integration, settings.method, url, content_type, headers, parameters, body)
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
    return ParsedPreset(preset, ())


def _build_body(
    settings: BodySettings, parameters: Mapping[str, ParameterSettings], errors: list[Finding]
) -> tuple[Template | None, str]:
    """Return the template of a body and its Content-Type."""
    body_keys = settings.model_fields_set - {"content_type"}
    content_type = settings.content_type
    if len(body_keys) != 1:
        errors.append(Finding(("body",), "must have exactly one of json, form and text"))
        return None, ""
    if body_keys == {"text"}:
        return _build_text_body(settings.text, content_type, parameters, errors)
    if content_type is not None:
        errors.append(Finding(("body", "content_type"), "may be used only with text", at_key=True))
    findings: Findings = []
    if body_keys == {"form"}:
        key, template, content_type = "form", form_template(settings.form, parameters, findings), FORM
    else:
        key, template, content_type = "json", json_template(settings.json_, parameters, findings), JSON
    errors += [Finding(("body", key, *loc), message) for loc, message in findings]
    return template, content_type


def _build_text_body(
    text: str, content_type: str | None, parameters: Mapping[str, ParameterSettings], errors: list[Finding]
) -> tuple[Template | None, str]:
    if content_type is None:
        errors.append(Finding(("body", "text"), "needs content_type beside it, such as text/plain", at_key=True))
        return None, ""
    if any(
        parameter.startswith("charset=") and parameter != "charset=utf-8"
        for parameter in content_type_parameters(content_type)
    ):
        errors.append(Finding(("body", "content_type"), "the charset must be utf-8, in which a body is written"))
    try:
        return text_template(content_type, text, parameters), content_type
    except InvalidTemplate as error:
        errors.append(Finding(("body", "text"), str(error)))
        return None, content_type


def _build_parameters(preset: PresetSettings, errors: list[Finding]) -> dict[str, Parameter]:
    parameters = {}
    for name, settings in preset.parameters.items():
        loc: Loc = ("parameters", name)
        errors += [Finding((*loc, key), message) for key, message in _combination_errors(settings)]
        without_enum = Parameter(settings.type, max_length=settings.max_length or 0)
        enum = [_to_decimal(value) for value in settings.enum or ()]
        for index, value in enumerate(enum):
            reason = without_enum.find_error(value)
            if reason is not None:
                errors.append(Finding((*loc, "enum", index), reason))
        default = None if settings.default is None else _to_decimal(settings.default)
        parameter = Parameter(settings.type, default, settings.max_length or 0, enum)
        for key in ("default", "example"):
            value = getattr(settings, key)
            reason = None if value is None else parameter.find_error(_to_decimal(value))
            if reason is not None:
                errors.append(Finding((*loc, key), reason))
        parameters[name] = parameter
    return parameters


def _combination_errors(settings: ParameterSettings) -> Iterator[tuple[str, str]]:
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


def _to_decimal(raw: Any) -> Any:
    """Convert a number of a document to a decimal, the type of numbers that callers send."""
    return Decimal(repr(raw)) if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


def _build_headers(settings: PresetSettings, errors: list[Finding]) -> list[HeaderTemplate]:
    headers = []
    seen: dict[str, str] = {}
    for name, value in settings.headers.items():
        loc: Loc = ("headers", name)
        normalised = normal_name(name)
        first = seen.setdefault(normalised, name)
        if normalised in _PAYLOAD_HEADERS:
            errors.append(Finding(loc, _PAYLOAD_HEADERS[normalised], at_key=True))
        if normalised == "proxy-authorization":
            errors.append(Finding(loc, "may not be set: write it as a secret header of the integration", at_key=True))
        if REQUEST_ROLES.get(normalised.encode()) == Role.DROP:
            errors.append(Finding(loc, "may not be set: no caller may send this header", at_key=True))
        if first != name:
            errors.append(Finding(loc, f"is the same header as {first} (case and _ do not count)", at_key=True))
        try:
            text = parse(value, settings.parameters)
            for literal in text.literals:
                as_header(literal)
            check_header_value("x".join(text.literals))
        except ValueError as error:
            errors.append(Finding(loc, str(error)))
            continue
        encoded = ParsedText([encode_header_value(literal) for literal in text.literals], text.names)
        headers.append(HeaderTemplate(name, Template.of(encoded, as_header)))
    return headers


def mismatch_errors(preset: snapshot.Preset, integration: snapshot.Integration | None) -> list[tuple[Loc, str]]:
    """Return why a preset does not fit its integration, for example since the integration has changed."""
    if integration is None:
        return [(("integration",), "no integration has this ID")]
    errors: list[tuple[Loc, str]] = []
    if integration.rebuild is None:
        canonical = integration.traits.canonical_form
        canonicalize = None if canonical is None else canonical.canonicalize
        verdict = judge_url(integration.policy, preset.rules.method.decode(), preset.rules.sample_url, canonicalize)
        if not verdict.allowed:
            key = "method" if verdict.code == "method_denied" else "url"
            errors.append(((key,), f"must be allowed by integration {integration.id}: {verdict.reason}"))
    injected = {normal_name(name) for name in integration.traits.injection_points.headers}
    signing = integration.traits.signing
    if signing is not None:
        injected |= {name.decode() for name in signing.names - signing.caller_fields}
    for name in preset.rules.header_names:
        if normal_name(name) in injected:
            errors.append((("headers", name), f"integration {integration.id} brings this header: remove it"))
        elif integration.policy.methods is not None and normal_name(name).encode() in METHOD_OVERRIDES:
            errors.append((("headers", name), f"integration {integration.id} has methods, which this would get around"))
        elif normal_name(name).encode() in TARGET_FIELDS - integration.pass_headers:
            remedy = f"integration {integration.id} drops this header: remove it, or list it there in pass_headers"
            errors.append((("headers", name), remedy))
    return errors


def pairing_errors(
    preset: snapshot.Preset, integration: snapshot.Integration, now: float, *, require_fetched: bool = False
) -> list[tuple[Loc, str]]:
    """Return why a preset cannot be used with an integration at `now` (seconds since the epoch).

    Besides `mismatch_errors`, the integration may be unusable, for example if its client certificate has expired. A
    process that fetches certificates sets `require_fetched`. A load and a command see a certificate before its first
    fetch.
    """
    errors = mismatch_errors(preset, integration)
    status = status_of(integration, now)
    is_expired = status.expires_at is not None and status.expires_at <= now
    certificate = integration.certificate
    is_unfetched = certificate is not None and certificate.missing_reason and integration.usable and not is_expired
    if not status.usable and (require_fetched or not is_unfetched):
        errors.append((("integration",), f"integration {integration.id} cannot be used now: see its own errors"))
    return errors


def broken_presets(integration: snapshot.Integration, presets: Mapping[str, snapshot.Preset]) -> dict[str, list[str]]:
    """Return the usable presets that a new version of their integration would break, with the reasons, by ID."""
    reasons_by_id = {
        name: [text for _, text in mismatch_errors(preset, integration)]
        for name, preset in sorted(presets.items())
        if preset.rules.integration == integration.id and not preset.invalid
    }
    return {name: reasons for name, reasons in reasons_by_id.items() if reasons}


class _Checked(NamedTuple):
    """The result of checking a preset with an integration."""

    preset: snapshot.Preset
    integration: snapshot.Integration | None
    result: snapshot.Preset


class PresetChecker:
    """Marks presets that do not fit their integrations. It checks a preset again only if one of the two has changed."""

    def __init__(self) -> None:
        self._results: dict[str, _Checked] = {}

    def __call__(
        self, presets: Mapping[str, snapshot.Preset], integrations: Mapping[str, snapshot.Integration]
    ) -> dict[str, snapshot.Preset]:
        """Return the presets, with reasons in `invalid` if they do not fit. A preset that fits is the same object."""
        results: dict[str, _Checked] = {}
        for name, preset in presets.items():
            integration = integrations.get(preset.rules.integration)
            checked = self._results.get(name)
            if checked is None or checked.preset is not preset or checked.integration is not integration:
                checked = _Checked(preset, integration, _mark_invalid(preset, integration))
            results[name] = checked
        self._results = results
        return {name: checked.result for name, checked in results.items()}


def _mark_invalid(preset: snapshot.Preset, integration: snapshot.Integration | None) -> snapshot.Preset:
    if preset.invalid:
        return preset
    reasons = mismatch_errors(preset, integration)
    return replace(preset, invalid="; ".join(text for _, text in reasons)) if reasons else preset
