"""Format variables for a shell, a docker env-file or a Kubernetes manifest, with exactly these values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import yaml


class InvalidValue(ValueError):
    """A value that this format cannot express. The message names the variable and the reason."""


class OutputFormat(NamedTuple):
    """An output format. `in_place` is True if a shell applies the output to the environment of `sidekey env` itself."""

    write: Callable[[Mapping[str, str]], str]
    in_place: bool


def posix(variables: Mapping[str, str]) -> str:
    """Format for `eval` in any POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def fish(variables: Mapping[str, str]) -> str:
    """Format for `source` in fish, whose single-quoted strings have two escapes."""

    def quote(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    return "".join(f"set -gx {name} {quote(value)}\n" for name, value in variables.items())


_POWERSHELL_QUOTES: Final = re.compile("(['‘’‚‛])")  # noqa: RUF001 - PowerShell accepts all of them


def powershell(variables: Mapping[str, str]) -> str:
    """Format for `Invoke-Expression`. Doubles quotes, typographic ones too, which PowerShell accepts as quotes."""

    def quote(value: str) -> str:
        return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", value) + "'"

    return "".join(f"$env:{name} = {quote(value)}\n" for name, value in variables.items())


def docker(variables: Mapping[str, str]) -> str:
    """Format for `docker run --env-file`, where a value is the rest of its line, without quotes or escapes."""
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise InvalidValue(f"{name}: a docker env-file cannot hold a line break")
        _check_text(name, value)
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def kubernetes(variables: Mapping[str, str]) -> str:
    """Format as `env` of a Kubernetes container. `$$` keeps the kubelet from expanding $(NAME) in a value."""
    for name, value in variables.items():
        _check_text(name, value)
    entries = [{"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()]
    text: str = yaml.safe_dump({"env": entries}, sort_keys=False, width=1 << 20)
    return text


def _check_text(name: str, value: str) -> None:
    try:
        # Python decodes bytes that are not UTF-8 as lone surrogates (PEP 383).
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{name}: must be UTF-8 for this form") from None


FORMATS: Final[Mapping[str, OutputFormat]] = {
    "sh": OutputFormat(posix, in_place=True),
    "bash": OutputFormat(posix, in_place=True),
    "zsh": OutputFormat(posix, in_place=True),
    "fish": OutputFormat(fish, in_place=True),
    "powershell": OutputFormat(powershell, in_place=True),
    "docker": OutputFormat(docker, in_place=False),
    "k8s": OutputFormat(kubernetes, in_place=False),
}
