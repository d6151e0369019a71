"""Programs that write secrets: `{command: [PROGRAM, ARGUMENT...], ttl, timeout, env}` in a config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from sidekey.credentials.units import format_duration, parse_duration

OPTIONS: Final = frozenset({"command", "ttl", "timeout", "env"})
"""The keys of a command."""

_TTL: Final = 300.0
_MIN_TTL: Final = 10.0
_MAX_TTL: Final = 86_400.0
_TIMEOUT: Final = 10.0
_MIN_TIMEOUT: Final = 1.0
_MAX_TIMEOUT: Final = 30.0
"""A reload, and therefore a change of the store, may wait for a new command."""
_MAX_ARGUMENTS: Final = 64
_MAX_LENGTH: Final = 4096
"""Characters of an argument."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """A program that writes a secret to standard output. Equal commands run once.

    `argv[0]` is the absolute path of the program. Nothing shows the arguments, because they may be secrets. `env` has
    the names of variables that the program gets from Sidekey's environment. `ttl` and `timeout` are in seconds. They do
    not count for equality, so that their change keeps the last secret.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    ttl: float = field(default=_TTL, compare=False)
    timeout: float = field(default=_TIMEOUT, compare=False)

    @property
    def program(self) -> str:
        """Return the path of the program."""
        return self.argv[0]

    def __repr__(self) -> str:
        return "Command(REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("a command may hold a secret and is not pickled")


def is_command(raw: Mapping[Any, Any]) -> bool:
    """Return True if a mapping of a JSON document is a command, valid or not, rather than a part of the document."""
    return isinstance(raw.get("command"), list) and raw.keys() <= OPTIONS


def parse_command(raw: Mapping[Any, Any]) -> Command:
    """Parse a mapping that has the key `command`. Raises ValueError without the value of an argument."""
    unknown = [key for key in raw if key not in OPTIONS]
    if unknown:
        # A key may be a secret that was pasted by mistake, so the message does not repeat it.
        guess = get_close_matches(str(unknown[0]), OPTIONS - raw.keys(), 1)
        hint = f": did you mean {guess[0]}?" if guess else ""
        raise ValueError(f"a command may have the keys command, ttl, timeout and env only{hint}")
    return Command(
        _parse_argv(raw["command"]),
        _parse_env(raw.get("env", [])),
        _parse_seconds("ttl", raw, _TTL, _MIN_TTL, _MAX_TTL),
        _parse_seconds("timeout", raw, _TIMEOUT, _MIN_TIMEOUT, _MAX_TIMEOUT),
    )


def _parse_argv(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(item, str) for item in raw):
        raise ValueError(
            "command must be a list of texts: the absolute path of a program, then its arguments, each in quotes if "
            "it is a number or true, false or null; there is no shell"
        )
    if len(raw) > _MAX_ARGUMENTS or any(len(item) > _MAX_LENGTH for item in raw):
        raise ValueError(f"command must have at most {_MAX_ARGUMENTS} items of at most {_MAX_LENGTH} characters")
    program, *arguments = raw
    if not program.startswith("/") or program.endswith("/") or _CONTROL.search(program):
        raise ValueError("command must begin with the absolute path of a program, because Sidekey searches no PATH")
    if any(_UNUSABLE.search(item) for item in raw):
        raise ValueError("an argument of command must not contain NUL or half a character")
    return program, *arguments


def _parse_seconds(key: str, raw: Mapping[Any, Any], default: float, minimum: float, maximum: float) -> float:
    if key not in raw:
        return default
    try:
        seconds = parse_duration(raw[key])
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
    if not minimum <= seconds <= maximum:
        raise ValueError(f"{key} must be between {format_duration(minimum)} and {format_duration(maximum)}")
    return seconds


def _parse_env(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, str) and _ENV_NAME.fullmatch(item) for item in raw):
        raise ValueError(
            "env must be a list of names of Sidekey's environment variables, which the program gets; not of values"
        )
    return tuple(raw)
