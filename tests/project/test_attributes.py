"""No code asks whether an object of our own has an attribute: its class says so, and the type checker knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sidekey
from support.syntax import walk

PACKAGE = Path(sidekey.__file__).parent

FOREIGN = {
    ("network/tls.py", "error"): "an ssl.SSLError names its reason, other errors of a handshake do not",
    ("network/tls.py", "ssl"): "the option is Python 3.12's and Debian 3.11's, by the OpenSSL that it was built with",
    ("network/tls_server.py", "error"): "as in network/tls.py",
    ("network/tls_server.py", "ssl"): "as in network/tls.py",
    ("network/tls_requests.py", "context"): "private to CPython's ssl, and not in every version",
    ("settings/document.py", "yaml"): "PyYAML has its loader in C only where it was built with libyaml",
}
"""Objects of others that may or may not have an attribute, by module and expression, with the reason."""


def asked(path: Path) -> Iterator[tuple[str, int]]:
    """The expression and the line of each `hasattr`, and of each `getattr` with a default for a fixed name."""
    text = path.read_text("utf-8")
    if "hasattr" not in text and "getattr" not in text:
        return
    for node in walk(ast.parse(text)):
        match node:
            case ast.Call(ast.Name("hasattr"), [value, *_]):
                yield ast.unparse(value), node.lineno
            case ast.Call(ast.Name("getattr"), [value, ast.Constant(), _]):
                yield ast.unparse(value), node.lineno


def test_no_object_of_our_own_is_asked_for_an_attribute() -> None:
    """Only what others made may lack one, and every exception is needed."""
    found = {
        (str(path.relative_to(PACKAGE)), value): line for path in PACKAGE.rglob("*.py") for value, line in asked(path)
    }
    own = [f"{path}:{found[path, value]}: {value}" for path, value in sorted(found.keys() - FOREIGN.keys())]
    assert (own, FOREIGN.keys() - found.keys()) == ([], set())
