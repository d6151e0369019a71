"""`yaml.safe_load` with libyaml if PyYAML has it, which takes a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """Parse one document."""
    return yaml.load(text, _LOADER)


def load_all(text: str) -> Iterator[Any]:
    """Parse every document."""
    yield from yaml.load_all(text, _LOADER)
