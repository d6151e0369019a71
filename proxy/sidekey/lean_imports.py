"""How a library is imported with less than it imports by itself: by variables that it reads, or a part of it alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import reload
from importlib.util import find_spec, module_from_spec
from types import ModuleType
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


class _Package(ModuleType):
    """A package whose own code runs when a name is asked for that is none of its modules'."""

    def __getattr__(self, name: str) -> Any:
        # The import system asks for a module as well before it imports it.
        if find_spec(f"{self.__name__}.{name}") is not None:
            raise AttributeError(name)
        self.__class__ = ModuleType
        reload(self)
        return getattr(self, name)


def defer_package(name: str, **known: object) -> None:
    """Let modules of a package be imported from now on without what the package's own `__init__` imports.

    That runs once something asks the package for a name of its own that is not among `known`.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        return
    package = module_from_spec(spec)
    package.__class__ = _Package
    vars(package).update(known)
    sys.modules[name] = package
