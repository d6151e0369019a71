"""The JSON of stored integrations: parse it strictly, give its secrets IDs, edit it, and serialize it for a row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final, NamedTuple, NoReturn

from sidekey.config.diff import find_differences
from sidekey.config.errors import Loc
from sidekey.config.profiles import ProfileAdditions
from sidekey.config.yaml_reader import MAX_DEPTH
from sidekey.credentials.certificates.pem_der import split_pem
from sidekey.credentials.fields import Entered, keeps_stored_secret, mentions_private_key
from sidekey.policy.json_reader import TooDeepError, parse_json, without_strings
from sidekey.store.canonical_json import equal

MAX_SIZE: Final = 512 << 10
"""Maximum bytes of a document, received or saved. A larger one could be read, but not sent back after an edit."""

MAX_INTEGER: Final = 10**18 - 1
"""The API also accepts and returns YAML, where a longer integer is text."""

_TOO_LONG: Final = "must not have an integer of more than 18 digits"

MAX_VALUES: Final = 20_000
"""Maximum values and keys of a document. Parsing, validating and freeing them blocks requests."""

MAX_PATH_LENGTH: Final = 1_000
"""Maximum characters of the keys above a value, because each error and each secret repeats them."""

_ENTERED_KEYS: Final = ("value", "url")
_CONTAINERS: Final = (dict, list)
_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedError(ValueError):
    """The text is not a JSON object within the limits. The message never repeats the text."""


def pointer(loc: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a location."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in loc)


def parse(data: bytes, *, exact: bool = False) -> dict[str, Any]:
    """Parse a JSON object (RFC 8259) and call `check_limits`. Raises MalformedError, also for a duplicate key.

    With `exact`, fractions become `Decimal`, which keeps every digit.
    """
    if _count_separators(data) > MAX_VALUES and _count_separators(without_strings(data)) > MAX_VALUES:
        raise MalformedError(f"must not have more than {MAX_VALUES} values")
    try:
        document = parse_json(data, (_EXACT_DECODER if exact else _DECODER).decode)
    except UnicodeDecodeError:
        raise MalformedError("must be UTF-8") from None
    except TooDeepError:
        raise MalformedError(f"must not be nested deeper than {MAX_DEPTH} levels") from None
    except MalformedError:
        raise
    except InvalidOperation:
        raise MalformedError("must not have a number with such an exponent") from None
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise MalformedError(f"must be JSON (RFC 8259): see {position}") from None
    except ValueError:
        # A number with more digits than Python reads.
        raise MalformedError(_TOO_LONG) from None
    if not isinstance(document, dict):
        raise MalformedError("must be a JSON object")
    check_limits(document)
    return document


def _count_separators(data: bytes) -> int:
    """Count the characters that precede a value or key. Strings may contain more of them."""
    return sum(map(data.count, (b",", b":", b"[", b"{")))


def check_limits(value: Any, depth: int = 0, path_length: int = 0) -> None:
    """Raise MalformedError for a document that is too deep, or has a number or text that JSON cannot hold.

    `path_length` is the number of characters of the keys above the value.
    """
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not isfinite(value):
            raise MalformedError("must not have a number that no double can hold")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise MalformedError(_TOO_LONG)
    elif isinstance(value, _CONTAINERS):
        if depth >= MAX_DEPTH:
            raise MalformedError(f"must not be nested deeper than {MAX_DEPTH} levels")
        if path_length > MAX_PATH_LENGTH:
            raise MalformedError(f"must not have a value below keys of more than {MAX_PATH_LENGTH} characters together")
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(key)
                check_limits(item, depth + 1, path_length + len(key) + 1)
        else:
            for item in value:
                check_limits(item, depth + 1, path_length + 1)


def _check_text(text: str) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise MalformedError("must not contain a lone surrogate, which is not a character")


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise MalformedError("must not have a key twice in an object")
    return mapping


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedError("must be JSON (RFC 8259), which has no NaN and no infinity")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicate_keys, parse_constant=_refuse_constant)
_EXACT_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_refuse_duplicate_keys, parse_float=Decimal, parse_constant=_refuse_constant
)


def with_new_ids(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a body in which each mapping that may be a new secret has an ID (`Entered`)."""
    copy = {key: _with_new_ids(value) for key, value in raw.items()}
    is_entered = len(copy) == 1 and any(isinstance(copy.get(key), str) for key in _ENTERED_KEYS)
    return Entered(copy) if is_entered else copy


def _with_new_ids(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return with_new_ids(raw)
    return [*map(_with_new_ids, raw)] if isinstance(raw, list) else raw


class SecretAt(NamedTuple):
    """A mapping in a body or row that may be a secret. Only the settings know whether the key takes a secret."""

    loc: Loc
    id: str
    raw: Mapping[str, Any]


def secrets_in(raw: Any) -> list[SecretAt]:
    """Return the mappings that may be secrets, in the order of the document."""
    secrets: list[SecretAt] = []
    _collect_secrets(raw, (), secrets)
    return secrets


def _collect_secrets(raw: Any, loc: Loc, secrets: list[SecretAt]) -> None:
    if isinstance(raw, Mapping):
        if isinstance(raw, Entered):
            secrets.append(SecretAt((*loc, "url") if "url" in raw else loc, raw.id, raw))
        elif keeps_stored_secret(raw) and isinstance(raw.get("id"), str):
            secrets.append(SecretAt(loc, raw["id"], raw))
        for key, value in raw.items():
            if isinstance(value, _CONTAINERS):
                _collect_secrets(value, (*loc, key), secrets)
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            if isinstance(value, _CONTAINERS):
                _collect_secrets(value, (*loc, index), secrets)


def with_secret_ids(raw: Mapping[str, Any], secrets: Container[str]) -> Any:
    """Return a copy of a document in which `{set: true, id}` replaces each secret with one of these IDs."""
    return with_values(
        raw, {secret.loc: {"set": True, "id": secret.id} for secret in secrets_in(raw) if secret.id in secrets}
    )


def merge_patch(target: Any, patch: Any, is_atomic: Callable[[Mapping[str, Any]], bool] = keeps_stored_secret) -> Any:
    """Apply a merge patch (RFC 7396). Replace objects that are `is_atomic`, such as secrets, as a whole."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) and not is_atomic(target) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value, is_atomic)
    return merged


def with_values(raw: Any, values: Mapping[Loc, Any], loc: Loc = ()) -> Any:
    """Return a copy of a document with other values at these locations."""
    if loc in values:
        return values[loc]
    if isinstance(raw, Mapping):
        return {key: with_values(value, values, (*loc, key)) for key, value in raw.items()}
    if isinstance(raw, list):
        return [with_values(value, values, (*loc, index)) for index, value in enumerate(raw)]
    return raw


def value_at(raw: Any, json_pointer: str) -> Any:
    """Return the value at a JSON pointer, or None."""
    for part in pointer_keys(json_pointer):
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list) and part.isdecimal() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return None
    return raw


def split_certificates(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move a private key that was pasted with its certificate to `private_key`, where Sidekey seals it.

    Drop other text around the certificate, such as a key without its BEGIN line. If the document has another key too,
    or if a block that mentions a private key cannot be parsed, change nothing: validation then refuses the certificate.
    """
    document = _split_below(document, ("client_certificate", "auth"))
    auth = document.get("auth")
    if not isinstance(auth, Mapping):
        return document
    split_auth = _split_below(auth, auth)
    return document if split_auth is auth else {**document, "auth": split_auth}


def _split_below(section: Mapping[str, Any], keys: Iterable[str]) -> Mapping[str, Any]:
    """Split the certificates of the sections at these keys. Return the same object if there is nothing to split."""
    below = {key: value for key in keys if isinstance(value := section.get(key), Mapping)}
    split_values = {key: {**value, **parts} for key, value in below.items() if (parts := _split_pem(value)) is not None}
    return {**section, **split_values} if split_values else section


def _split_pem(section: Mapping[str, Any]) -> Mapping[str, Any] | None:
    certificate, key = section.get("certificate"), section.get("private_key")
    is_inline = isinstance(certificate, Mapping)
    text = certificate.get("inline") if isinstance(certificate, Mapping) and len(certificate) == 1 else certificate
    if not isinstance(text, str):
        return None
    pem = split_pem(text)
    if not pem.certificates or mentions_private_key(pem.rest):
        return None
    public = {"certificate": {"inline": pem.certificates} if is_inline else pem.certificates}
    if not pem.private_keys:
        return public if pem.rest.strip() else None
    return {**public, "private_key": {"value": pem.private_keys}} if _may_replace(key, pem.private_keys) else None


def _may_replace(key: Any, pasted: str) -> bool:
    """Return True if the pasted key may replace the key of a section: none, a stored one, or the same one."""
    if not isinstance(key, Mapping):
        return key is None
    entered = key.get("value")
    return keeps_stored_secret(key) or (isinstance(entered, str) and split_pem(entered).private_keys == pasted)


def changed_pointers(previous: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pointers at which two documents differ. A list counts as one value."""
    return (pointer(difference.loc) for difference in find_differences(previous, after, equal))


def pointer_keys(json_pointer: str) -> Iterator[str]:
    """Yield the keys of a JSON pointer, list indexes as text."""
    return (key.replace("~1", "/").replace("~0", "~") for key in json_pointer.split("/")[1:])


@dataclass(frozen=True, slots=True)
class SavedDocument:
    """The document of a row: `{set: true, id}` in place of each secret, and the profile's additions at that time."""

    content: Mapping[str, Any]
    from_profile: ProfileAdditions | None = None

    def text(self) -> str:
        """Serialize the document for a row."""
        document: dict[str, Any] = {"integration": self.content}
        if self.from_profile is not None:
            document["profile"] = {
                "provider": self.from_profile.provider,
                "parameters": [*self.from_profile.parameters],
                "keys": self.from_profile.added_keys,
                "domains": self.from_profile.domains,
                "prefix": self.from_profile.prefix,
                "secrets": [*self.from_profile.secrets],
            }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def load(cls, text: str) -> SavedDocument:
        """Parse the document of a row. Raises MalformedError."""
        try:
            document = parse_json(text)
            content = dict(document["integration"])
            profile = document.get("profile")
            if profile is None:
                return cls(content)
            auth, keys = dict(content["auth"]), {**profile["keys"], "auth": dict(profile["keys"]["auth"])}
            parameters = {key: auth[key] for key in profile["parameters"]}
            extra = (profile["domains"], profile["prefix"], tuple(profile["secrets"]))
            return cls(content, ProfileAdditions(profile["provider"], parameters, keys, *extra))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise MalformedError("is not what this version of Sidekey saves") from None
