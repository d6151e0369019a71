"""Who assigns whose attributes: finds where code outside a class writes the state of the class.

The class of a receiver follows from annotations of parameters, variables, attributes and results, and from calls of a
class. Where it does not, an attribute tells it that no other class of the package has.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.syntax import walk

_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator)
"""Nodes in which nothing is written."""

Known = Mapping[str, list[ast.expr]]
"""The annotations that are known of each variable."""

_CONTAINERS = {"list", "set", "frozenset", "tuple", "deque", "dict", "Iterable", "Iterator", "Sequence", "Collection"}
_TAKES_ONE = {"pop", "popleft", "popitem", "get", "values"}
"""Methods of containers whose result is an element, or an iterable of them."""


@dataclass
class Class:
    """What a class says of itself."""

    bases: set[str] = field(default_factory=set)
    is_protocol: bool = False
    """Of `typing`, not of asyncio: it has no state, only says what some class has."""
    state: set[str] = field(default_factory=set)
    """Its slots, its annotated attributes, and what its methods assign to `self`."""
    types: dict[str, ast.expr] = field(default_factory=dict)
    """The annotations of its attributes, and of what its methods return."""

    def read(self, node: ast.ClassDef) -> None:
        """Add what stands in a definition."""
        self.bases |= {name for base in node.bases for name in _names(base)}
        self.is_protocol |= any(_is_name(base, "Protocol") for base in node.bases)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self.state.add(statement.target.id)
                self.types[statement.target.id] = statement.annotation
            elif isinstance(statement, ast.Assign) and _is_name(statement.targets[0], "__slots__"):
                self.state |= {str(slot.value) for slot in ast.walk(statement.value) if isinstance(slot, ast.Constant)}
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                if statement.returns is not None:
                    self.types.setdefault(statement.name, statement.returns)
                self._read_method(statement)

    def _read_method(self, method: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        annotated = {arg.arg: arg.annotation for arg in _arguments(method) if arg.annotation is not None}
        for node in walk(method):
            self.state |= {attribute for receiver, attribute in _written(node) if _is_name(receiver, "self")}
            match node:
                case ast.AnnAssign(ast.Attribute(ast.Name("self"), attribute), annotation):
                    self.types.setdefault(attribute, annotation)
                case ast.Assign([ast.Attribute(ast.Name("self"), attribute)], ast.Name(name)) if name in annotated:
                    self.types.setdefault(attribute, annotated[name])


def foreign_writes(sources: Mapping[str, str], owners: Sequence[str]) -> list[str]:
    """`FILE:LINE: CLASS.ATTRIBUTE is assigned in PLACE` for each write of an owner's state outside of its class.

    `sources` has the text of each module by its path. A class may write what its bases and its subclasses have.
    """
    trees = {path: ast.parse(text) for path, text in sources.items()}
    classes: dict[str, Class] = {}
    for tree in trees.values():
        for node in walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, Class()).read(node)
    absent = [name for name in owners if name not in classes]
    if absent:
        raise LookupError(f"no class is called {', '.join(absent)}")
    judge = _Judge(classes, owners)
    return [f"{path}:{found}" for path, tree in trees.items() for found in judge.of(tree, None, {})]


def sources_of(package: Path) -> dict[str, str]:
    """The text of each module of a package, by its path below it."""
    return {str(path.relative_to(package)): path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}


class _Judge:
    def __init__(self, classes: Mapping[str, Class], owners: Sequence[str]) -> None:
        self._classes = classes
        above = {name: self._above(name) for name in classes}
        self._kin = {name: above[name] | {other for other in classes if name in above[other]} for name in classes}
        """Each class with its bases and subclasses."""
        self._owners = {kin for owner in owners for kin in self._kin[owner]}
        others = [each for name, each in classes.items() if name not in self._owners and not each.is_protocol]
        common = {attribute for each in others for attribute in each.state}
        self._only = {attribute: name for name in sorted(self._owners) for attribute in classes[name].state - common}
        """The attributes that only owners have, each with one of them."""

    def _above(self, name: str) -> set[str]:
        bases = self._classes[name].bases & self._classes.keys() - {name}
        return {name}.union(*map(self._above, bases))

    def of(self, node: ast.AST, within: str | None, known: Known) -> Iterator[str]:
        """The foreign writes in a node, which stands in class `within`."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Attribute | ast.Call):
                yield from self._judged(child, within, known)
            if isinstance(child, ast.ClassDef):
                yield from self.of(child, child.name, known)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                outer = dict(known)
                if within is not None and isinstance(node, ast.ClassDef):
                    outer["self"] = [ast.Name(within)]
                yield from self.of(child, within, self._variables(child, outer))
            elif not isinstance(child, _LEAVES):
                yield from self.of(child, within, known)

    def _judged(self, node: ast.AST, within: str | None, known: Known) -> Iterator[str]:
        for receiver, attribute in _written(node):
            told = {name for each in self._annotations(receiver, known) for name in _names(each)}
            told = {name for name in told & self._classes.keys() if not self._classes[name].is_protocol}
            owners = {name for name in told & self._owners if self._has(name, attribute)}
            if not told and attribute in self._only:
                owners = {self._only[attribute]}
            for owner in sorted(owners):
                if within not in self._kin[owner]:
                    place = f"class {within}" if within else "a function"
                    yield f"{receiver.lineno}: {owner}.{attribute} is assigned in {place}"

    def _has(self, name: str, attribute: str) -> bool:
        return any(attribute in self._classes[each].state for each in self._above(name))

    def _variables(self, function: ast.FunctionDef | ast.AsyncFunctionDef, known: Known) -> Known:
        found = dict(known)
        for arg in _arguments(function):
            if arg.annotation is not None:
                found[arg.arg] = [arg.annotation]
        nodes = walk(function)
        for node in nodes:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = [node.annotation]
        for node in nodes:
            target, told = None, []
            if isinstance(node, ast.Assign):
                target, told = node.targets[0], self._annotations(node.value, found)
            elif isinstance(node, ast.NamedExpr):
                target, told = node.target, self._annotations(node.value, found)
            elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
                target, told = node.target, self._elements(node.iter, found)
            if isinstance(target, ast.Name) and told:
                found[target.id] = [*found.get(target.id, []), *told]
        return found

    def _annotations(self, value: ast.expr, known: Known) -> list[ast.expr]:
        """What is known of a value, as annotations."""
        match value:
            case ast.Name(name):
                return known.get(name, [])
            case ast.Attribute(receiver, attribute):
                names = {name for each in self._annotations(receiver, known) for name in _names(each)}
                lines = [each for name in names & self._classes.keys() for each in self._above(name)]
                return [
                    self._classes[each].types[attribute] for each in lines if attribute in self._classes[each].types
                ]
            case ast.Call(ast.Name(name)) if name in self._classes:
                return [ast.Name(name)]
            case ast.Call(ast.Name("cast"), [annotation, _]):
                return [annotation]
            case ast.Call(ast.Attribute(receiver, method)):
                told = self._annotations(value.func, known)
                return told or (self._elements(receiver, known) if method in _TAKES_ONE else [])
            case ast.Subscript(receiver):
                return self._elements(receiver, known)
            case ast.Await(inner) | ast.NamedExpr(_, inner):
                return self._annotations(inner, known)
            case ast.IfExp(_, one, other):
                return [*self._annotations(one, known), *self._annotations(other, known)]
            case ast.BoolOp(_, values):
                return [told for each in values for told in self._annotations(each, known)]
        return []

    def _elements(self, value: ast.expr, known: Known) -> list[ast.expr]:
        """What is known of the elements of a container; of a mapping, of its values."""
        parsed = [_parsed(each) for each in self._annotations(value, known)]
        generic = [each.slice for each in parsed if isinstance(each, ast.Subscript) and _names(each) & _CONTAINERS]
        return [each.elts[-1] if isinstance(each, ast.Tuple) else each for each in generic] or parsed


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterable[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _written(node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Receiver and attribute of each attribute that a statement sets or deletes."""
    match node:
        case ast.Attribute(receiver, attribute, ast.Store() | ast.Del()):
            yield receiver, attribute
        case ast.Call(ast.Name("setattr" | "delattr"), [receiver, ast.Constant(str(attribute)), *_]):
            yield receiver, attribute
        case ast.Call(ast.Attribute(_, "__setattr__" | "__delattr__"), [receiver, ast.Constant(str(attribute)), *_]):
            yield receiver, attribute


def _parsed(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _names(annotation: ast.expr) -> set[str]:
    """The classes that an annotation names for the value itself."""
    match _parsed(annotation):
        case ast.Name(name) | ast.Attribute(_, name):
            return {name}
        case ast.BinOp(one, ast.BitOr(), other):
            return _names(one) | _names(other)
        case ast.Subscript(ast.Name("Optional" | "Union" | "Final" | "Annotated"), inner):
            return {name for each in (inner.elts if isinstance(inner, ast.Tuple) else [inner]) for name in _names(each)}
        case ast.Subscript(generic):
            return _names(generic)
    return set()


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
