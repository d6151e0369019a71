"""Translate pydantic's errors into findings with a location and a hint. No message repeats the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sidekey.config.errors import MAX_ERRORS, Finding, Loc, existing_loc, more_errors
from sidekey.config.models import Config, GlobalSettings, IntegrationSettings
from sidekey.config.profiles import profile, provider_names_of
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.context import Context, file_only_keys
from sidekey.credentials.fields import DocumentType, mapping
from sidekey.credentials.registry import KINDS

_MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "this key is missing",
    "string_type": lambda _: "must be a text: put numbers, true, false and null in quotes",
    "bool_type": lambda _: "must be true or false",
    "int_type": lambda _: "must be a whole number",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "model_attributes_type": lambda _: "must be a mapping",
    "literal_error": lambda context: f"must be {context['expected']}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "too_short": lambda _: "must have at least one entry",
    "too_long": lambda context: f"must have at most {context['max_length']} entries",
    "value_error": lambda context: str(context["error"]),
}


def findings_of(
    error: ValidationError,
    model: type[BaseModel],
    root_of: Callable[[Loc], Mapping[str, Any]],
    context: Context,
) -> list[Finding]:
    """Translate pydantic's first errors; the last finding says if there are more.

    `root_of` returns the mapping in which a location starts.
    """
    errors = error.errors(include_url=False, include_input=False, include_context=True)
    findings = [_finding(details, model, root_of, context) for details in errors[:MAX_ERRORS]]
    more = len(errors) - MAX_ERRORS
    return [*findings, Finding((), more_errors(more))] if more > 0 else findings


def _finding(
    details: ErrorDetails, model: type[BaseModel], root_of: Callable[[Loc], Mapping[str, Any]], context: Context
) -> Finding:
    error_type, values = details["type"], details.get("ctx", {})
    loc, section, members = _resolve_loc(details["loc"], model)
    is_key = loc[-1:] == ("[key]",)  # pydantic's mark for an invalid key of a mapping
    if is_key:
        loc = loc[:-1]
    root = root_of(loc)
    if error_type == "extra_forbidden":
        return Finding(loc, _unknown_key(loc, section, model, root, context), at_key=True)
    if error_type == "union_tag_not_found":
        return Finding(loc, f"type is missing: write one of {', '.join(members)}")
    if error_type == "union_tag_invalid":
        text = f"must be one of {', '.join(members)}{_suggestion(values['tag'], members)}"
        return Finding(existing_loc(root, (*loc, "type")), text)
    if error_type != "missing":
        # A validator may have wrapped a single value in a list that the document does not have.
        loc = existing_loc(root, loc)
    return Finding(loc, _MESSAGES[error_type](values), at_key=is_key)


def _suggestion(tag: str, members: Mapping[str, type[BaseModel]]) -> str:
    """Suggest the member of a union that a wrong tag may mean."""
    word = tag.lower().replace("-", "_")
    close = get_close_matches(word, members, n=1, cutoff=0.7)
    suggestions = [name for name, member in members.items() if word in getattr(member, "mistaken_types", ())] or close
    return f"; did you mean {suggestions[0]}?" if suggestions else ""


def _unknown_key(
    loc: Loc, section: type[BaseModel] | None, model: type[BaseModel], root: Mapping[str, Any], context: Context
) -> str:
    key = str(loc[-1])
    if key == "<<":
        return "merge keys are not supported: use an alias (*name) for a whole value"
    if key in IntegrationSettings.model_fields:
        if loc[:1] == ("auth",) and len(loc) > 1:
            return "this key belongs to the integration, not under auth"
        if model is GlobalSettings and len(loc) == 1 and not _is_below_empty_key(key, root):
            return "this key belongs to an integration"
    if loc[:-1] == ("auth",):
        hint = _misplaced_auth_key(key, root)
        if hint:
            return hint
    if model is IntegrationSettings and len(loc) == 1 and key in GlobalSettings.model_fields:
        return "this key belongs to the top level of the config file"
    if model is GlobalSettings and len(loc) == 1 and "auth" in mapping(root.get(key)):
        return "this looks like an integration: indent it, and put it under integrations"
    section = Config if section is GlobalSettings else section
    allowed = [] if section is None else _allowed_keys(section, context)
    close = get_close_matches(key, allowed, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    parent = _empty_key_above(key, _value_at(root, loc[:-1]), allowed)
    if parent is not None:
        return f"unknown key; if it belongs to {parent} above, indent it"
    return f"unknown key; known: {', '.join(allowed)}" if allowed else "unknown key"


def _allowed_keys(section: type[BaseModel], context: Context) -> list[str]:
    """Return the keys that a document of this context may set."""
    refused = {} if context.is_file else file_only_keys(section)
    return [field.alias or name for name, field in section.model_fields.items() if name not in refused]


def _value_at(root: Any, loc: Loc) -> Any:
    """Return the value at a location, or at the longest prefix of it that exists."""
    for part in existing_loc(root, loc):
        root = root[part]
    return root


def _empty_key_above(key: str, table: Any, allowed: list[str]) -> str | None:
    """Return the allowed key above an unknown key if it has no value: the unknown key probably belongs under it."""
    if not isinstance(table, Mapping):
        return None
    above = takewhile(lambda name: name != key, table)
    last = next((name for name in reversed([*above]) if name in allowed), None)
    return None if last is None or table[last] is not None else last


def _is_below_empty_key(key: str, table: Mapping[str, Any]) -> bool:
    """Return True if the key follows a global key without a value, such as `proxy` after `listen`."""
    return _empty_key_above(key, table, [*GlobalSettings.model_fields]) is not None


def _misplaced_auth_key(key: str, root: Mapping[str, Any]) -> str:
    """Return a hint for a key of `auth` that belongs elsewhere or to another kind, or an empty text."""
    kind = str(root["auth"].get("type"))
    if key in CertificateSettings.model_fields:
        return "this key belongs under client_certificate, beside auth"
    hint = KINDS[kind].hint(key)
    if hint:
        return hint
    providers = [name for name in provider_names_of(kind) if key in profile(name).names]
    if providers:
        return f"this is a parameter of a provider: write provider: {' or '.join(providers)}"
    kinds = [name for name, settings in KINDS.items() if name != kind and key in settings.model_fields]
    return f"this key may be used only with type {' or '.join(kinds)}" if kinds else ""


def _resolve_loc(loc: Loc, model: type[BaseModel]) -> tuple[Loc, type[BaseModel] | None, Mapping[str, type[BaseModel]]]:
    """Follow one of pydantic's locations from a model, and remove the tags that unions add to it.

    Return also the model that has the last part as a key, and the members of the union at the location by their tags.
    """
    document_loc: list[str | int] = []
    section: type[BaseModel] | None = None
    value_model: type[BaseModel] | None = model
    entry_model: type[BaseModel] | None = None
    members: Mapping[str, type[BaseModel]] = {}
    for part in loc:
        if part in members:
            value_model, members = members[str(part)], {}
            continue
        document_loc.append(part)
        section = value_model
        field = None if section is None else _field(str(part), section)
        if field is None:
            value_model, entry_model, members = entry_model, None, {}
        else:
            value_model, entry_model, members = _model_of(field), _entry_model_of(field), _union_members(field)
    return tuple(document_loc), section, members


def _field(key: str, model: type[BaseModel]) -> FieldInfo | None:
    return next((field for name, field in model.model_fields.items() if key == (field.alias or name)), None)


def _union_members(field: FieldInfo) -> Mapping[str, type[BaseModel]]:
    """Return the members of a discriminated union by their tags."""
    if field.discriminator is None:
        return {}
    members = get_args(field.annotation)
    return {tag: member for member in members for tag in get_args(member.model_fields["type"].annotation)}


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a key's value, or None if the value is a union or not a mapping with fixed keys."""
    document_model = next((item.model for item in field.metadata if isinstance(item, DocumentType)), None)
    if document_model is not None or field.discriminator is not None:
        return document_model
    if get_origin(field.annotation) in (dict, list):
        return None
    return _first_model(field.annotation, *get_args(field.annotation))


def _entry_model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of the entries if a key's value is a mapping or list of models."""
    if get_origin(field.annotation) not in (dict, list):
        return None
    entry = get_args(field.annotation)[-1]
    return _first_model(entry, *get_args(entry))


def _first_model(*annotations: Any) -> type[BaseModel] | None:
    models = (
        annotation for annotation in annotations if isinstance(annotation, type) and issubclass(annotation, BaseModel)
    )
    return next(models, None)
