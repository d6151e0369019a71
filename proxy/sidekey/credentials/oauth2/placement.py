"""Where an access token goes in a request (RFC 6750 2.1 to 2.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import Grant, Places
from sidekey.credentials.fields import WrittenAs, check_header_name, check_parameter_name, normal_name

Place = Literal["header", "body", "query"]

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")


@dataclass(frozen=True, slots=True)
class Placement:
    """`name` is a header, a query parameter or a body field; `scheme` precedes the token in a header."""

    place: Place = "header"
    name: str = "Authorization"
    scheme: str = "Bearer"

    @property
    def bearer(self) -> bool:
        """Whether the token is used as RFC 6750 says; under a scheme of its own only the config knows how."""
        return self.place != "header" or self.scheme.lower() == "bearer"

    def places(self) -> Places:
        """The place by its kind."""
        return Places(**{_FIELDS[self.place]: (self.name,)})

    def spelled(self) -> list[str]:
        """Place, name and scheme; of a header and its scheme case does not count (RFC 9110 5.1, 11.1)."""
        if self.place == "header":
            return [self.place, normal_name(self.name), self.scheme.lower()]
        return [self.place, self.name, self.scheme]

    def grant(self, token: str, base_url: str | None) -> Grant:
        """The grant of a token."""
        pair = ((self.name, f"{self.scheme} {token}".lstrip() if self.place == "header" else token),)
        secrets = (token.encode("latin-1"),)
        if self.place == "header":
            return Grant(headers=pair, base_url=base_url, secrets=secrets)
        if self.place == "query":
            return Grant(query=pair, base_url=base_url, secrets=secrets)
        return Grant(body=pair, base_url=base_url, secrets=secrets)


_FIELDS = {"header": "headers", "body": "body", "query": "query"}


class WrittenPlacement(BaseModel):
    """The mapping that `token_placement` may be."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    place: Place = Field(alias="in")
    name: str | None = None
    scheme: str | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None or "place" not in info.data:
            return name
        return check_header_name(name) if info.data["place"] == "header" else check_parameter_name(name)

    @field_validator("scheme")
    @classmethod
    def _check_scheme(cls, scheme: str | None, info: ValidationInfo) -> str | None:
        if scheme is None:
            return scheme
        if info.data.get("place", "header") != "header":
            raise ValueError("may be used only with in: header")
        if not _SCHEME.fullmatch(scheme):
            raise ValueError('must be one word, such as Bearer, or "" for none (RFC 9110 11.1)')
        return scheme


def parse_placement(raw: object) -> Placement:
    """Read where the token goes. Raises ValueError (pydantic's, where a key of a mapping is wrong)."""
    if isinstance(raw, Placement):
        return raw
    if raw not in ("header", "body", "query") and not isinstance(raw, dict):
        raise ValueError("must be header, body, query, or {in: header, name: Authorization, scheme: Bearer}")
    written = WrittenPlacement.model_validate(raw if isinstance(raw, dict) else {"in": raw})
    if written.place == "header":
        scheme = "Bearer" if written.scheme is None else written.scheme
        return Placement("header", written.name or "Authorization", scheme)
    return Placement(written.place, written.name or "access_token", "")


_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["header", "body", "query"]},
        {
            "type": "object",
            "properties": {
                "in": {"enum": ["header", "body", "query"], "description": "Which part of the request."},
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "description": "Name of the header, parameter or field; left out, `Authorization` or "
                    "`access_token`.",
                },
                "scheme": {
                    "type": "string",
                    "description": 'Word before the token in a header; left out, `Bearer`; `""` for none.',
                },
            },
            "required": ["in"],
            "additionalProperties": False,
        },
    ]
}
TokenPlacement = Annotated[
    Placement,
    WrittenAs(WrittenPlacement),
    PlainValidator(parse_placement),
    PlainSerializer(lambda placement: placement.place, return_type=str),
    WithJsonSchema(_SCHEMA),
]
