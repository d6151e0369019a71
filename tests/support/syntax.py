"""The nodes of a syntax tree."""

from __future__ import annotations

import ast


def walk(tree: ast.AST) -> list[ast.AST]:
    """As `ast.walk`, breadth first, in half of the time: the package has half a million nodes."""
    found = [tree]
    for node in found:
        for value in node.__dict__.values():
            if isinstance(value, list):
                found += [each for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST):
                found.append(value)
    return found
