"""Write values as the YAML of a config file, and check that reading it returns the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

from sidekey.config.errors import Loc, format_loc
from sidekey.config.yaml_reader import Malformed, parse

_BREAK = re.compile("[\x85\u2028\u2029]")
_CANNOT = "cannot be written in a config file"


class Inexpressible(ValueError):
    """A config file cannot represent a value. The message names its location, never the value."""


class _Dumper(yaml.SafeDumper):
    """The dumper in pure Python, whose output does not depend on libyaml."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values in full."""
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists as well."""
        del indentless
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _BREAK.search(text):
        # YAML reads these characters as line breaks, unless they are escaped.
        style = '"'
    elif "\n" in text:
        # Keep the lines of PEM, for readers and diffs.
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_number(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    # `yaml_reader` would parse a number with an exponent as text.
    plain = format(Decimal(repr(number)), "f")
    return dumper.represent_scalar("tag:yaml.org,2002:float", plain if "." in plain else f"{plain}.0")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_number)


def write(document: Mapping[str, Any], comment: str = "") -> str:
    """Serialize a document after a comment, without sorting its keys. Raises Inexpressible."""
    text = yaml.dump(
        _plain(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20, default_flow_style=False
    )
    try:
        read, errors = parse("", text.encode())
    except (Malformed, UnicodeEncodeError):
        raise Inexpressible(f"it {_CANNOT}") from None
    difference = _first_difference(document, read)
    if errors or difference is not None:
        raise Inexpressible(f"{format_loc(difference)}: {_CANNOT}" if difference else f"it {_CANNOT}")
    return "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines()) + text


def _plain(value: Any) -> Any:
    """Convert mappings and lists to plain dicts and lists, the only ones that the dumper represents."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _first_difference(first: Any, second: Any, loc: Loc = ()) -> Loc | None:
    """Return the location of the first difference, or None. Order counts, and true is not 1."""
    if isinstance(first, Mapping) and isinstance(second, Mapping) and list(first) == list(second):
        differences = (_first_difference(value, second[key], (*loc, key)) for key, value in first.items())
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        differences = (_first_difference(value, second[index], (*loc, index)) for index, value in enumerate(first))
    else:
        return None if type(first) is type(second) and json.dumps(first) == json.dumps(second) else loc
    return next((difference for difference in differences if difference is not None), None)
