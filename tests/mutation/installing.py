"""How a mutant gets into the place of the code: as a module that is imported, or in functions that are there already.

It is never written to a disk.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FunctionType, ModuleType


class Finder:
    """Finds modules of these names, with other code than that of their files."""

    def __init__(self, modules: Mapping[str, tuple[Path, str]]) -> None:
        self._modules = {
            name: (path, compile(code, path, "exec", dont_inherit=True)) for name, (path, code) in modules.items()
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib asks for it."""
        if name not in self._modules:
            return None
        file, compiled = self._modules[name]
        places = [str(file.parent)] if file.name == "__init__.py" else None
        return spec_from_file_location(
            name, file, loader=_Loader(name, str(file), compiled), submodule_search_locations=places
        )


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, compiled: CodeType) -> None:
        super().__init__(name, path)
        self.compiled = compiled

    def get_code(self, fullname: str) -> CodeType:
        return self.compiled


class Functions:
    """The functions there are now that come from files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._of: defaultdict[str, list[FunctionType]] = defaultdict(list)
        gc.unfreeze()  # else those are not told of
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(f"{folder}/"):
                self._of[thing.__code__.co_filename].append(thing)
        gc.freeze()

    def change(self, file: str, source: str, code: str) -> bool:
        """Let those of a file do what other code says in place of its source.

        Returns False, and changes nothing, where what differs is not all in functions that are there.
        """
        old, new = (list(_outermost(compile(text, file, "exec", dont_inherit=True))) for text in (source, code))
        if [found.co_qualname for found in old] != [found.co_qualname for found in new]:
            return False
        changed = {before: after for before, after in zip(old, new, strict=True) if before != after}
        found = [function for function in self._of[file] if function.__code__ in changed]
        if changed.keys() != {function.__code__ for function in found}:
            return False
        pairs = [(function, changed[function.__code__]) for function in found]
        if any(function.__code__.co_freevars != after.co_freevars for function, after in pairs):
            return False
        for function, after in pairs:
            function.__code__ = after
        return True


def _outermost(code: CodeType) -> Iterator[CodeType]:
    """The functions of a module and of its classes, without those that they make when they are called."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & _OPTIMIZED:
                yield inner
            else:
                yield from _outermost(inner)


_OPTIMIZED = 1
"""The flag of functions; the body of a class has none (`inspect.CO_OPTIMIZED`)."""
