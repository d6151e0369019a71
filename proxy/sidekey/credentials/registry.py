"""The registered kinds, one line each, and the parts beside them. The config's union and its schema are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, Union

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from sidekey.credentials.added import AddedSettings
from sidekey.credentials.base import KindSettings, SupplementSettings
from sidekey.credentials.signatures.settings import SignatureBesideSettings


class Kinds(Mapping[str, type[KindSettings]]):
    """The kinds by their names, of modules in this package. Each is imported when it is asked for.

    All of them are 2.3 MB of memory, and few configs have two. All are asked for by what makes the schema and by errors
    that name other kinds, and by the API and the console while they are imported, so before anything listens.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._imported: dict[str, type[KindSettings]] = {}

    def __getitem__(self, name: str) -> type[KindSettings]:
        if name not in self._imported:
            module, _, model = self._places[name].partition(":")
            self._imported[name] = getattr(import_module(f"{__package__}.{module}"), model)
        return self._imported[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


KINDS: Final = Kinds(
    {
        "aws_sigv4": "aws.settings:AwsSigV4Settings",
        "basic": "basic:BasicSettings",
        "headers": "headers:HeadersSettings",
        "jwt": "jwt:JwtSettings",
        "mtls": "mtls:MtlsSettings",
        "oauth2": "oauth2.settings:OAuth2Settings",
        "responsys": "responsys:ResponsysSettings",
        "session": "session:SessionSettings",
        "signature": "signature:SignatureSettings",
    }
)

SUPPLEMENTS: tuple[type[SupplementSettings], ...] = (AddedSettings, SignatureBesideSettings)
"""The parts beside `auth`, in the order in which they supplement a grant."""


class _ByType:
    """How pydantic validates and describes a block by its `type`: as the union of all kinds, and imports one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source, handler
        return core_schema.tagged_union_schema(
            {name: core_schema.no_info_plain_validator_function(partial(_validated, name)) for name in KINDS},
            discriminator="type",
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        del schema
        every: Any = Union[tuple(KINDS.values())]  # noqa: UP007 - the table decides at run time
        return handler(TypeAdapter(Annotated[every, Field(discriminator="type")]).core_schema)


def _validated(name: str, block: Any) -> KindSettings:
    return KINDS[name].model_validate(block)


if TYPE_CHECKING:
    AuthSettings = KindSettings
else:
    AuthSettings = Annotated[Any, _ByType()]
    """The `auth:` block: one of the kinds, by `type`."""
