"""The mutants of a module: one small change of its code each.

Most are made by cosmic-ray's operators, without those that only restate another at the same place (it has seven
replacements for one comparison): a sample of them all would say little about the rest of the code. Ours drop
statements, catch fewer exceptions (cosmic-ray fails at those with a dotted name), and change strings, membership tests
and the conditions of comprehensions. Nothing is changed that does not
run: annotations (every module has `from __future__ import annotations`) and docstrings.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from parso.python.tree import Class, Function, Lambda
from parso.tree import BaseNode, NodeOrLeaf

OPERATORS = (
    "AddNot",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_BitAnd_BitOr",
    "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_BitXor_BitAnd",
    "ReplaceBinaryOperator_Div_Mul",
    "ReplaceBinaryOperator_FloorDiv_Mul",
    "ReplaceBinaryOperator_LShift_RShift",
    "ReplaceBinaryOperator_Mod_Mul",
    "ReplaceBinaryOperator_Mul_Add",
    "ReplaceBinaryOperator_Pow_Mul",
    "ReplaceBinaryOperator_RShift_LShift",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_LtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Gt",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_GtE",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Invert",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "ZeroIterationForLoop",
)

Position = tuple[int, int]
"""A line, from 1, and a column, from 0."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how a module can be changed; `code` makes the change."""

    path: str
    scope: str
    """The class and function, as in `Policy.learn`; empty at the level of the module."""
    operator: str
    line: str
    """The first line that changes, as it is."""
    nth: int
    """Which of those that have all of the above in common."""
    code: Callable[[], str | None]

    def rank(self, seed: str) -> bytes:
        """Its place in the order that a seed gives to all sites: random, and left alone by changes elsewhere."""
        return hashlib.sha256("\0".join((seed, *self._name())).encode()).digest()

    def _name(self) -> tuple[str, ...]:
        return self.path, self.scope, self.operator, self.line, str(self.nth)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change that compiles: what the report tells of it, and the module's whole code."""

    path: str
    scope: str
    old: str
    new: str
    code: str


def sites(path: str, source: str) -> list[Site]:
    """Every place where the module can be changed. `path` is relative to the package."""
    lines = source.splitlines()
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for name, node, (row, _), code in _changes(source):
        if _runs(node):
            scope, line = _scope(node), lines[row - 1].strip()
            seen[scope, name, line] += 1
            found.append(Site(path, scope, name, line, seen[scope, name, line], code))
    return found


def _changes(source: str) -> Iterator[tuple[str, NodeOrLeaf, Position, Callable[[], str | None]]]:
    nodes = list(ast_nodes(parso.parse(source)))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        occurrence = 0
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                yield name, node, start, partial(mutate_code, source, operator, occurrence)
                occurrence += 1
    for node in nodes:
        for name, start, end, text in _own_changes(node):
            yield name, node, start, partial(_spliced, source, start, end, text)


def _own_changes(node: NodeOrLeaf) -> Iterator[tuple[str, Position, Position, str]]:
    """Ours, as a piece of text and what replaces it."""
    first = node.children[0] if isinstance(node, BaseNode) else node
    if node.type == "simple_stmt" and _has_effect(first):
        yield "DropStatement", first.start_pos, first.end_pos, "pass"
    elif node.type == "comp_if" and isinstance(node, BaseNode):
        condition = node.children[1]
        yield "NegateFilter", condition.start_pos, condition.end_pos, f"not ({_text(condition)})"
    elif node.type == "except_clause" and isinstance(node, BaseNode):
        for caught in _caught(node.children[1]):
            yield "CatchLess", caught.start_pos, caught.end_pos, "()"
    elif node.type == "keyword" and _text(node) == "in" and node.parent is not None:
        if node.parent.type == "comparison":
            yield "NegateMembership", node.start_pos, node.end_pos, "not in"
        elif node.parent.type == "comp_op":
            yield "NegateMembership", node.parent.start_pos, node.parent.end_pos, "in"
    elif node.type in ("string", "fstring_end") and not _is_docstring(node):
        row, column = node.end_pos
        column -= 3 if _text(node).endswith(('"""', "'''")) else 1
        yield "LengthenString", (row, column), (row, column), "x"


def _has_effect(statement: NodeOrLeaf) -> bool:
    """Whether a program can run without the statement; one that only assigns a name is left out: that would crash."""
    if isinstance(statement, BaseNode) and statement.type == "expr_stmt":
        target, assigned = statement.children[:2]
        augmented = assigned.type == "operator" and _text(assigned) != "="
        return target.type == "atom_expr" or augmented
    return statement.type in ("atom_expr", "raise_stmt", "yield_expr") or _text(statement) == "return"


def _caught(expression: NodeOrLeaf) -> Sequence[NodeOrLeaf]:
    """The exceptions that an `except` names: one, or those of a tuple."""
    if isinstance(expression, BaseNode) and expression.type == "atom":
        inner = expression.children[1]
        return inner.children[::2] if isinstance(inner, BaseNode) and inner.type == "testlist_comp" else [inner]
    return [expression]


def _is_docstring(node: NodeOrLeaf) -> bool:
    return node.parent is not None and node.parent.type == "simple_stmt"


def _runs(node: NodeOrLeaf) -> bool:
    """Whether the node is no part of an annotation."""
    while node.parent is not None:
        parent = node.parent
        annotation = (
            parent.annotation
            if isinstance(parent, Function)
            else parent.children[{"annassign": 1, "tfpdef": 2}[parent.type]]
            if parent.type in ("annassign", "tfpdef")
            else None
        )
        if node is annotation:
            return False
        node = parent
    return True


def _text(node: NodeOrLeaf) -> str:
    return str(node.get_code()).strip()


def _scope(node: NodeOrLeaf) -> str:
    names: list[str] = []
    above: NodeOrLeaf | None = node
    while above is not None:
        if isinstance(above, (Class, Function)) and not isinstance(above, Lambda):
            names.insert(0, above.name.value)
        above = above.parent
    return ".".join(names)


def _spliced(source: str, start: Position, end: Position, text: str) -> str:
    lines = source.splitlines(keepends=True)
    before = "".join(lines[: start[0] - 1]) + lines[start[0] - 1][: start[1]]
    after = lines[end[0] - 1][end[1] :] + "".join(lines[end[0] :])
    return before + text + after


def sample(package: Path, modules: Sequence[str], seed: str, size: int) -> tuple[int, list[Mutant]]:
    """How many sites these modules of the package have, and a random choice of `size` mutants of them.

    A smaller choice is the beginning of a larger one.
    """
    sources = {module: (package / module).read_text("utf-8") for module in modules}
    found = [site for path, source in sources.items() for site in sites(path, source)]
    chosen: list[Mutant] = []
    for site in sorted(found, key=lambda site: site.rank(seed)):
        if len(chosen) == size:
            break
        mutant = _mutant(site, sources[site.path])
        if mutant is not None:
            chosen.append(mutant)
    return len(found), chosen


def _mutant(site: Site, source: str) -> Mutant | None:
    """The site's mutant, or None where what came out is no Python."""
    code = site.code()
    try:
        compile(code or "", site.path, "exec", dont_inherit=True)
    except SyntaxError:
        return None
    changed = [
        line
        for line in unified_diff(source.splitlines(), (code or "").splitlines(), n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    old, new = ("\n".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
    return Mutant(site.path, site.scope, old, new, code or "")
