"""How a library is imported with less than it imports by itself: by variables that it reads, or a part of it alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, reload
from importlib.util import find_spec, module_from_spec
from threading import RLock
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

    That runs once something asks the package for a name of its own that is not among `known`. Threads that ask
    meanwhile wait for it.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        return
    package = module_from_spec(spec)
    lock, begun = RLock(), False

    def complete(attribute: str) -> Any:
        nonlocal begun
        # The import system asks for a module as well before it imports it.
        if find_spec(f"{name}.{attribute}") is not None:
            return import_module(f"{name}.{attribute}")
        with lock:
            if not begun:
                begun = True
                try:
                    reload(package)
                except BaseException:
                    begun = False
                    raise
        found = vars(package)
        if attribute not in found and found["__getattr__"] is complete:
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return getattr(package, attribute)

    vars(package).update(known, __getattr__=complete)
    sys.modules[name] = package
