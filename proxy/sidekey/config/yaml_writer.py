"""Writes values as YAML of a config file: the very same come out when it is read again, or it says that they cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

from sidekey.config.errors import Loc, show
from sidekey.config.yaml_reader import Malformed, parse

_BREAK = re.compile("[\x85\u2028\u2029]")
_CANNOT = "cannot be written in a config file"


class Inexpressible(ValueError):
    """A value that a config file cannot say. The text has its place, and not the value."""


class _Dumper(yaml.SafeDumper):
    """In pure Python, which writes the same wherever it runs."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every value is written where it stands."""
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists as well."""
        del indentless
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _BREAK.search(text):
        # To YAML they end a line as \n does, and are read as that.
        style = '"'
    elif "\n" in text:
        # PEM as lines, which a reader and a diff can follow.
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _number(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    # Without an exponent, by which it would be a text.
    plain = format(Decimal(repr(number)), "f")
    return dumper.represent_scalar("tag:yaml.org,2002:float", plain if "." in plain else f"{plain}.0")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(float, _number)


def write(document: Mapping[str, Any], comment: str = "") -> str:
    """The text of a config file, below the lines of a comment. The order of keys stays. Raises Inexpressible."""
    text = yaml.dump(
        _plain(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20, default_flow_style=False
    )
    try:
        read, errors = parse("", text.encode())
    except (Malformed, UnicodeEncodeError):
        raise Inexpressible(f"it {_CANNOT}") from None
    differs = _differs(document, read)
    if errors or differs is not None:
        raise Inexpressible(f"{show(differs)}: {_CANNOT}" if differs else f"it {_CANNOT}")
    return "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines()) + text


def _plain(value: Any) -> Any:
    """The same of plain dicts and lists alone, which are all that is represented."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _differs(one: Any, other: Any, place: Loc = ()) -> Loc | None:
    """Where two values differ first; order counts, and true is not 1. None: nowhere."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        found = (_differs(value, other[key], (*place, key)) for key, value in one.items())
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = (_differs(value, other[index], (*place, index)) for index, value in enumerate(one))
    else:
        return None if type(one) is type(other) and json.dumps(one) == json.dumps(other) else place
    return next((each for each in found if each is not None), None)
