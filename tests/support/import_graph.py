"""Which module of the package imports which, and where imports run in a circle."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from support.syntax import walk

Graph = Mapping[str, Mapping[str, int]]
"""For each module the modules that it imports, each with the line."""


def import_graph(package: Path) -> Graph:
    """Every import counts: those for type checking and those in functions as well."""
    modules = {_name(path, package.parent): path for path in package.rglob("*.py")}
    return {name: dict(_imports(name, path, modules)) for name, path in sorted(modules.items())}


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    for node in walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            targets = [module if module in modules else base for module in inner]
        else:
            continue
        yield from ((target, node.lineno) for target in targets if target in modules and target != name)


def circles(graph: Graph) -> list[list[str]]:
    """Each set of modules that reach one another, largest first; none where imports run in no circle."""
    reached = {name: _reached(name, graph) for name in graph}
    sets = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return sorted((list(found) for found in sets if found), key=len, reverse=True)


def _reached(start: str, graph: Graph) -> set[str]:
    found: set[str] = set()
    waiting = deque(graph[start])
    while waiting:
        name = waiting.popleft()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found


def shortest(start: str, graph: Graph) -> list[str]:
    """The shortest circle through a module of one: each step as `module:line imports module`."""
    steps: dict[str, str] = {}
    waiting = deque([start])
    while start not in steps:
        name = waiting.popleft()
        for target in graph[name]:
            if target not in steps:
                steps[target] = name
                waiting.append(target)
    way = [start]
    while len(way) == 1 or way[-1] != start:
        way.append(steps[way[-1]])
    way.reverse()
    return [f"{one}:{graph[one][other]} imports {other}" for one, other in pairwise(way)]
