"""How a library is imported with less than it imports by itself: by variables that it reads, or a part of it alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import reload
from importlib.util import find_spec, module_from_spec
from typing import Any


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


def defer_package(name: str, **known: object) -> None:
    """Let modules of a package be imported from now on without what the package's own `__init__` imports.

    That runs once something asks the package for a name of its own that is not among `known`.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        return
    package = module_from_spec(spec)

    def complete(attribute: str) -> Any:
        # The import system asks for a module as well before it imports it.
        if find_spec(f"{name}.{attribute}") is not None:
            raise AttributeError(attribute)
        del vars(package)["__getattr__"]
        reload(package)
        return getattr(package, attribute)

    vars(package).update(known, __getattr__=complete)
    sys.modules[name] = package
