"""Values as a config writes them that are public texts, or secrets with a public word before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Final

from pydantic import ValidationInfo, WithJsonSchema

from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.fields import (
    REDACT,
    Keys,
    Reference,
    Section,
    marker,
    parse_secret,
    parse_text,
    refuse_places,
)

NOTHING = Reference("text", "")
_KEYS: Final = ("prefix", "secret")


def shape(raw: Any, info: ValidationInfo) -> Any:
    """Turn both spellings of a value into one: what is not {prefix, secret} is a public text."""
    if isinstance(raw, Mapping):
        is_file = Context.of(info).is_file
        if "insecure_value" in raw or (not is_file and ("value" in raw or "set" in raw)):
            key = "insecure_value" if is_file else "value"
            raise ValueError(f"must be a public text, or {{prefix: TEXT, secret: {{{key}: TEXT}}}}")
        if "secret" in raw:
            refuse_places([(key,) for key in raw if key not in _KEYS], f"unknown key; known: {', '.join(_KEYS)}")
            return raw
        if "prefix" in raw:
            secret = "REFERENCE" if is_file else "{value: SECRET}"
            raise ValueError(f"secret is missing: write {{prefix: TEXT, secret: {secret}}}")
    return {"text": raw}


# A text that a config has elsewhere becomes a secret in the store, where public ones can be read: it may be one.
parse_public = partial(parse_text, form="secret")


class WrittenValue(Section):
    """A value: `text` where it is public, else `prefix` and `secret`."""

    text: Annotated[Reference | None, parsed_by(parse_public), REDACT] = None
    prefix: Annotated[Reference, parsed_by(parse_text), REDACT] = NOTHING
    secret: Annotated[Reference | None, parsed_by(parse_secret), REDACT] = None

    def inputs(self, *key: str) -> Iterator[tuple[Keys, Reference]]:
        """What must be read: the public text, or the prefix and the secret; `key` is the place of the value."""
        if self.text is not None:
            yield key, self.text
        if self.secret is not None:
            yield (*key, "prefix"), self.prefix
            yield (*key, "secret"), self.secret

    def joined(self, values: Mapping[Keys, str], *key: str) -> str:
        """What was read of it, joined."""
        return "".join(values[each] for each, _ in self.inputs(*key))


def written_schema(title: str, *further: dict[str, Any]) -> WithJsonSchema:
    """The JSON schema of a value that may be `further` things as well."""
    properties = {
        "prefix": {**marker("text"), "description": "Public text before the secret, such as 'Bearer '"},
        "secret": marker("secret"),
    }
    secret = {"type": "object", "properties": properties, "required": ["secret"], "additionalProperties": False}
    return WithJsonSchema({"title": title, "oneOf": [marker("text"), *further, secret]})
