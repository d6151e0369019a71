"""Imports point one way: no module of the package imports, by whatever way round, itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import sidekey
from support.import_graph import circles, import_graph, shortest

PACKAGE = Path(sidekey.__file__).parent


def test_imports_run_in_no_circle() -> None:
    """Imports for type checking and those in functions count: who needs a name knows of its module."""
    graph = import_graph(PACKAGE)
    assert len(graph) > 100
    told = [
        "\n  ".join(
            [f"{len(circle)} modules import one another:", *circle, "for example:", *shortest(circle[0], graph)]
        )
        for circle in circles(graph)
    ]
    if told:
        pytest.fail("\n".join(told), pytrace=False)


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        ("import p.b", "import p.c", "", []),
        ("import p.b", "def f():\n    from p import c", "from .a import x", [["p.a", "p.b", "p.c"]]),
        ("from p.b import x", "if TYPE_CHECKING:\n    from p.a import y", "from p import a", [["p.a", "p.b"]]),
    ],
)
def test_a_circle_is_found(a: str, b: str, c: str, expected: list[list[str]], tmp_path: Path) -> None:
    """In functions, for type checking and relative; else the test above would say nothing."""
    package = tmp_path / "p"
    package.mkdir()
    for name, text in (("__init__", ""), ("a", a), ("b", b), ("c", c)):
        (package / f"{name}.py").write_text(text)
    assert circles(import_graph(package)) == expected
