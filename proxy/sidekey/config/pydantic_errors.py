"""Turns pydantic's errors into findings with a place and a way out. No message repeats the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sidekey.config.errors import MAX_ERRORS, MORE_ERRORS, Finding, Loc, held
from sidekey.config.models import Config, GlobalSettings, IntegrationSettings
from sidekey.config.profiles import names_of, profile
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
    """Translate pydantic's first errors. `root_of` finds the mapping that a place starts in.

    If there are more, the last finding says so.
    """
    errors = error.errors(include_url=False, include_input=False, include_context=True)
    found = [_finding(details, model, root_of, context) for details in errors[:MAX_ERRORS]]
    return [*found, Finding((), MORE_ERRORS)] if len(errors) > MAX_ERRORS else found


def _finding(
    details: ErrorDetails, model: type[BaseModel], root_of: Callable[[Loc], Mapping[str, Any]], context: Context
) -> Finding:
    kind, values = details["type"], details.get("ctx", {})
    loc, section, members = _followed(details["loc"], model)
    of_key = loc[-1:] == ("[key]",)
    if of_key:
        loc = loc[:-1]
    root = root_of(loc)
    if kind == "extra_forbidden":
        return Finding(loc, _unknown_key(loc, section, model, root, context), key=True)
    if kind == "union_tag_not_found":
        return Finding(loc, f"type is missing: write one of {', '.join(members)}")
    if kind == "union_tag_invalid":
        text = f"must be one of {', '.join(members)}{_meant(values['tag'], members)}"
        return Finding(held(root, (*loc, "type")), text)
    if kind != "missing":
        # What a validator put around a single value is not in the document.
        loc = held(root, loc)
    return Finding(loc, _MESSAGES[kind](values), key=of_key)


def _meant(written: str, members: Mapping[str, type[BaseModel]]) -> str:
    """Suggest the member of a union that a wrong tag may mean, if there is one."""
    word = written.lower().replace("-", "_")
    close = get_close_matches(word, members, n=1, cutoff=0.7)
    meant = [tag for tag, member in members.items() if word in getattr(member, "also_called", ())] or close
    return f"; did you mean {meant[0]}?" if meant else ""


def _unknown_key(
    loc: Loc, section: type[BaseModel] | None, model: type[BaseModel], root: Mapping[str, Any], context: Context
) -> str:
    key = str(loc[-1])
    if key == "<<":
        return "merge keys are not supported: use an alias (*name) for a whole value"
    if key in IntegrationSettings.model_fields:
        if loc[:1] == ("auth",) and len(loc) > 1:
            return "this key belongs to the integration, not under auth"
        if model is GlobalSettings and len(loc) == 1:
            return "this key belongs to an integration"
    if loc[:-1] == ("auth",):
        elsewhere = _of_other_kinds(key, root)
        if elsewhere:
            return elsewhere
    if model is IntegrationSettings and len(loc) == 1 and key in GlobalSettings.model_fields:
        return "this key belongs to the top level of the config file"
    if model is GlobalSettings and len(loc) == 1 and "auth" in mapping(root.get(key)):
        return "this looks like an integration: indent it, and put it under integrations"
    section = Config if section is GlobalSettings else section
    known = [] if section is None else _names_of(section, context)
    close = get_close_matches(key, known, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    above = _empty_above(key, _at(root, loc[:-1]), known)
    if above is not None:
        return f"unknown key; if it belongs to {above} above, indent it"
    return f"unknown key; known: {', '.join(known)}" if known else "unknown key"


def _names_of(section: type[BaseModel], context: Context) -> list[str]:
    """Return the names of the keys that a document of this context may set."""
    refused = {} if context.is_file else file_only_keys(section)
    return [field.alias or name for name, field in section.model_fields.items() if name not in refused]


def _at(root: Any, loc: Loc) -> Any:
    """What is at a place, or at as much of it as there is."""
    for part in held(root, loc):
        root = root[part]
    return root


def _empty_above(key: str, table: Any, known: list[str]) -> str | None:
    """The key above an unknown one that has nothing under it, so that the unknown one was meant to be there."""
    if not isinstance(table, Mapping):
        return None
    above = takewhile(lambda each: each != key, table)
    last = next((each for each in reversed([*above]) if each in known), None)
    return None if last is None or table[last] is not None else last


def _of_other_kinds(key: str, root: Mapping[str, Any]) -> str:
    """The hint for a key of `auth` that is none of its kind but has a place elsewhere; empty where it has none."""
    kind = str(root["auth"].get("type"))
    if key in CertificateSettings.model_fields:
        return "this key belongs under client_certificate, beside auth"
    hint = KINDS[kind].hint(key)
    if hint:
        return hint
    providers = [name for name in names_of(kind) if key in profile(name).names]
    if providers:
        return f"this is a parameter of a provider: write provider: {' or '.join(providers)}"
    kinds = [name for name, settings in KINDS.items() if name != kind and key in settings.model_fields]
    return f"this key may be used only with type {' or '.join(kinds)}" if kinds else ""


def _followed(loc: Loc, model: type[BaseModel]) -> tuple[Loc, type[BaseModel] | None, Mapping[str, type[BaseModel]]]:
    """Follow one of pydantic's locations from a model, and remove the tags that unions put into it.

    Return also the model whose key is the last part, and the members of the union at the location by their tags.
    """
    found: list[str | int] = []
    section: type[BaseModel] | None = None
    inner: type[BaseModel] | None = model
    entry: type[BaseModel] | None = None
    members: Mapping[str, type[BaseModel]] = {}
    for part in loc:
        if part in members:
            inner, members = members[str(part)], {}
            continue
        found.append(part)
        section = inner
        field = None if section is None else _field(str(part), section)
        if field is None:
            inner, entry, members = entry, None, {}
        else:
            inner, entry, members = _model_of(field), _entry_of(field), _members(field)
    return tuple(found), section, members


def _field(key: str, model: type[BaseModel]) -> FieldInfo | None:
    return next((field for name, field in model.model_fields.items() if key == (field.alias or name)), None)


def _members(field: FieldInfo) -> Mapping[str, type[BaseModel]]:
    """The members of a discriminated union by their tags."""
    if field.discriminator is None:
        return {}
    members = get_args(field.annotation)
    return {tag: member for member in members for tag in get_args(member.model_fields["type"].annotation)}


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of the mapping that a key takes, unless the key takes a union."""
    written = next((each.model for each in field.metadata if isinstance(each, DocumentType)), None)
    if written is not None or field.discriminator is not None:
        return written
    if get_origin(field.annotation) in (dict, list):
        return None
    return _first_model(field.annotation, *get_args(field.annotation))


def _entry_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of each entry, if a key takes a mapping or list of models."""
    if get_origin(field.annotation) not in (dict, list):
        return None
    entry = get_args(field.annotation)[-1]
    return _first_model(entry, *get_args(entry))


def _first_model(*annotations: Any) -> type[BaseModel] | None:
    models = (each for each in annotations if isinstance(each, type) and issubclass(each, BaseModel))
    return next(models, None)
