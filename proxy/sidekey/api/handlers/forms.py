"""`/forms`: presets as forms for people, which reveal no URL, header, body, integration or error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import Any, Final, Literal

from pydantic import Field

from sidekey.api.auth.operators import Operator
from sidekey.api.errors import FORBIDDEN, ApiProblem, not_found
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import PAGE_SIZE, Body, Identified, Page, contains_words
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.config.field_types import Name
from sidekey.config.models import ParameterSettings
from sidekey.credentials.fields import mapping
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.snapshot.status import status_of


class FormParameter(ParameterSettings):
    """A parameter to fill in."""

    name: str


class FormItem(Identified):
    """A form without its parameters."""

    title: str
    help: str
    takes: Literal["parameters", "payload"]
    content_type: str | None = Field(description="The type of the payload; null: any, or the preset takes parameters.")
    problem: bool = Field(description="Whether the preset cannot be sent now.")


class Form(FormItem):
    """A preset as people fill it in."""

    parameters: list[FormParameter]


class Forms(Page[FormItem]):
    """A page of forms."""


class FormFilter(Body):
    """The query of the list of forms."""

    q: str = Field(default="", description="Words that ID, title or help contain, each in any case.")
    after: Name = Field(default="", description="`next` of the previous page.")


@partial(Route, "GET", "/forms", "listForms", permission="sends", query=FormFilter, response=Forms)
async def browse(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the presets that the operator may fill in, by ID."""
    return await service.respond(_page, service.snapshot, request.operator, request.query)


@partial(Route, "GET", "/forms/{id}", "getForm", permission="sends", response=Form, codes=("not_found",))
async def read(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read a preset as people fill it in."""
    operator, name = request.operator, request.path_parameters["id"]
    if name not in _ids(service.snapshot, operator):
        raise not_found() if operator.presets is None else ApiProblem("forbidden", FORBIDDEN)
    return await service.respond(_form, service.snapshot, operator, name)


def _ids(snapshot: Snapshot, operator: Operator) -> Mapping[str, Preset] | frozenset[str]:
    """Return the IDs of the operator's forms. For a sender these are its grants, which may name deleted presets."""
    return snapshot.presets if operator.presets is None else operator.presets


def _page(snapshot: Snapshot, operator: Operator, query: FormFilter) -> Forms:
    later = (name for name in sorted(_ids(snapshot, operator)) if name > query.after)
    names = [*islice((name for name in later if _matches(name, snapshot.presets.get(name), query.q)), PAGE_SIZE + 1)]
    items = [FormItem(**_members(snapshot, operator, name)) for name in names[:PAGE_SIZE]]
    return Forms(items=items, next=names[PAGE_SIZE - 1] if len(names) > PAGE_SIZE else None)


def _matches(name: str, preset: Preset | None, q: str) -> bool:
    return contains_words(q, (name,) if preset is None else (name, preset.title, preset.help))


def _form(snapshot: Snapshot, operator: Operator, name: str) -> Form:
    preset = snapshot.presets.get(name)
    document = {} if preset is None else json.loads(preset.document)
    parameters = [_parameter(key, settings) for key, settings in mapping(document.get("parameters")).items()]
    return Form(**_members(snapshot, operator, name), parameters=parameters)


def _parameter(name: str, document: Mapping[str, Any]) -> FormParameter:
    settings = ParameterSettings.model_validate(document)
    values = settings.model_dump()
    return FormParameter(**{**values, "name": name, "required": settings.default is None})


def _members(snapshot: Snapshot, operator: Operator, name: str) -> dict[str, Any]:
    preset = snapshot.presets.get(name)
    if preset is None:
        return {
            "id": name,
            "title": name,
            "help": "",
            "takes": "parameters",
            "content_type": None,
            "problem": True,
        }
    has_body = preset.rules.has_body
    return {
        "id": name,
        "title": preset.title or name,
        "help": preset.help,
        "takes": "parameters" if has_body else "payload",
        "content_type": None if has_body else preset.accepts,
        "problem": not _is_usable(snapshot, preset) or (operator.presets is not None and not has_body),
    }


def _is_usable(snapshot: Snapshot, preset: Preset) -> bool:
    if preset.invalid:
        return False
    return status_of(snapshot.integrations[preset.rules.integration], time.time()).usable


ROUTES: Final = (browse, read)
