"""Validation context: the place where a document is stored decides which values it may contain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, ValidationInfo
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """The location of a document. Each validation needs one as pydantic's context.

    A `file` is the operator's config file: it may refer to files and variables of Sidekey's machine. A `body` is sent
    to the API and contains secrets. A `row` is in the store and has `{set: true}` in place of each secret. If a body or
    row could refer to files, its editor could make Sidekey send them anywhere.
    """

    where: Literal["file", "body", "row"]

    @property
    def is_file(self) -> bool:
        """Return True if the document is a config file."""
        return self.where == "file"

    @classmethod
    def of(cls, info: ValidationInfo) -> Context:
        """Return the context of a validation. Raises TypeError if the caller passed none."""
        if not isinstance(info.context, Context):
            raise TypeError("pass a Context as the context of the validation")
        return info.context


def parsed_by(parse: Callable[[object, Context], T]) -> PlainValidator:
    """Validate a value with a parser that takes the context."""
    return PlainValidator(lambda raw, info: parse(raw, Context.of(info)))


FILE_ONLY: Final = "x-sidekey-file-only"
"""Marks a key in a JSON schema that only a config file may set."""


@dataclass(frozen=True, slots=True)
class FileOnly:
    """Marks a key that only a config file may set. `reason` is the error in a body or row."""

    reason: str

    def _check(self, raw: object, info: ValidationInfo) -> object:
        if not Context.of(info).is_file:
            raise ValueError(self.reason)
        return raw

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), FILE_ONLY: True}


def file_only_keys(model: type[BaseModel]) -> dict[str, str]:
    """Return the keys of a model that only a config file may set, each with its reason."""
    fields = model.model_fields.items()
    return {name: mark.reason for name, field in fields for mark in field.metadata if isinstance(mark, FileOnly)}
