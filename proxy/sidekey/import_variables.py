"""Variables that libraries read while they are imported, and by which they import less."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def set_while_importing(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while: no thread runs yet where something is imported by this."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
