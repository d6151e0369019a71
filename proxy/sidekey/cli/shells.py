"""Variables as text that a shell, a container's runtime or a manifest sets exactly these values by."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import yaml


class InvalidValue(ValueError):
    """A value that this form cannot express; the message says which variable's, and why."""


class Shell(NamedTuple):
    """A form of writing variables. `here` says that it sets them where `sidekey env` runs, beside what is set there."""

    write: Callable[[Mapping[str, str]], str]
    here: bool


def posix(variables: Mapping[str, str]) -> str:
    """For `eval` in any POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def fish(variables: Mapping[str, str]) -> str:
    """For `source` in fish, whose single quotes know two escapes."""

    def quoted(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    return "".join(f"set -gx {name} {quoted(value)}\n" for name, value in variables.items())


_POWERSHELL_QUOTES: Final = re.compile("(['‘’‚‛])")  # noqa: RUF001 - PowerShell takes all of them for one


def powershell(variables: Mapping[str, str]) -> str:
    """For `Invoke-Expression`; a quote is doubled, and typographic ones are quotes as well."""

    def quoted(value: str) -> str:
        return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", value) + "'"

    return "".join(f"$env:{name} = {quoted(value)}\n" for name, value in variables.items())


def docker(variables: Mapping[str, str]) -> str:
    """For `docker run --env-file`: a value is the rest of its line as it is, without quotes or escapes."""
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise InvalidValue(f"{name}: a docker env-file cannot hold a line break")
        _check_text(name, value)
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def kubernetes(variables: Mapping[str, str]) -> str:
    """The key `env` of a container; `$$` keeps the kubelet from expanding $(NAME) in a value."""
    for name, value in variables.items():
        _check_text(name, value)
    entries = [{"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()]
    text: str = yaml.safe_dump({"env": entries}, sort_keys=False, width=1 << 20)
    return text


def _check_text(name: str, value: str) -> None:
    try:
        # Bytes that are not UTF-8 come as lone surrogates (PEP 383).
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{name}: must be UTF-8 for this form") from None


SHELLS: Final[Mapping[str, Shell]] = {
    "sh": Shell(posix, here=True),
    "fish": Shell(fish, here=True),
    "powershell": Shell(powershell, here=True),
    "docker": Shell(docker, here=False),
    "k8s": Shell(kubernetes, here=False),
}
