"""Which changes are made to code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest

from mutation.mutants import OPERATORS, sample, sites


def changed(source: str, operator: str = "") -> set[str]:
    """The lines that replace another in the mutants of some code, all of them or those of one operator."""
    found = set()
    for site in sites("m.py", source):
        if site.operator.startswith(operator):
            code = site.code() or ""
            found |= {line.strip() for line in code.splitlines()} - {line.strip() for line in source.splitlines()}
    return found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (
            "if a and not b: f()",
            {"if not a and not b: f()", "if a or not b: f()", "if a and  b: f()", "if a and not b: pass"},
        ),
        ("x = 1 < a", {"x = 2 < a", "x = 0 < a", "x = 1 <= a", "x = 1 >= a"}),
        ("x = a == b", {"x = a != b"}),
        ("x = a is None", {"x = a is not None"}),
        ("x = a in b", {"x = a not in b"}),
        ("x = a not in b", {"x = a in b"}),
        ("x = [a for a in b if c or d]", {"x = [a for a in b if not (c or d)]", "x = [a for a in b if c and d]"}),
        ("x = a + b", {"x = a - b"}),
        ("x = True", {"x = False"}),
        ("x = 'a' b'c'", {"x = 'ax' b'c'", "x = 'a' b'cx'"}),
        ('x = f"a{b}"', {'x = f"a{b}x"'}),
        ("f(a)", {"pass"}),
        ("a.b = c", {"pass"}),
        ("a[b] = c", {"pass"}),
        ("a += b", {"pass"}),
        ("raise a", {"pass"}),
        ("a = b", set()),
        ("import a", set()),
    ],
)
def test_a_line_is_changed_in_each_way(source: str, lines: set[str]) -> None:
    """Once for each operator and place."""
    assert changed(f"{source}\n") == lines


def test_statements_of_functions_are_dropped_where_they_are() -> None:
    """An early return, an awaited call, what a generator yields; the indentation stays."""
    source = dedent("""
        async def f(a):
            if a:
                return
            await a.b()
            yield a
    """)
    assert changed(source, "DropStatement") == {"pass"}
    assert [site.line for site in sites("m.py", source) if site.operator == "DropStatement"] == [
        "return",
        "await a.b()",
        "yield a",
    ]
    for site in sites("m.py", source):
        compile(site.code() or "", "m.py", "exec")


def test_an_except_clause_catches_one_exception_less() -> None:
    """Also where the exception's name has a dot, and each of several."""
    source = "try: f\nexcept a.B: g\nexcept (C, d.E) as error: h\nexcept (F): i\n"
    assert changed(source, "CatchLess") == {
        "except (): g",
        "except ((), d.E) as error: h",
        "except (C, ()) as error: h",
        "except (()): i",
    }


def test_a_loop_does_not_begin_and_a_decorator_is_removed() -> None:
    """Both are cosmic-ray's."""
    assert changed("for a in b: c") == {"for a in []: c"}
    assert "@f\ndef g(): h" not in {site.code() for site in sites("m.py", "@f\ndef g(): h") if site.code()}


def test_nothing_is_changed_that_does_not_run() -> None:
    """Neither annotations nor docstrings."""
    source = dedent('''
        """Module."""
        a: int | None
        def f(a: int | None, *b: "c", d: Literal["e"] = e) -> g | h:
            """Function."""
            i: dict[str, 1] = j
    ''')
    assert sites("m.py", source) == []


def test_a_site_knows_where_it_is() -> None:
    """The class and function around it, and the line."""
    (site,) = sites("core/m.py", "class A:\n    def f(self):\n        self.x = self.y\n")
    assert (site.path, site.scope, site.line, site.nth) == ("core/m.py", "A.f", "self.x = self.y", 1)


def test_what_stands_in_a_lambda_is_its_functions() -> None:
    """Which has no name of its own."""
    (site, *_) = sites("core/m.py", "def f():\n    return lambda x: x + 1\n")
    assert site.scope == "f"


def test_every_operator_of_cosmic_rays_exists() -> None:
    """A newer version that drops one of them is noticed here."""
    assert len(OPERATORS) == len(set(OPERATORS))
    assert sites("m.py", "") == []


def write(package: Path, **modules: str) -> Sequence[str]:
    """Make modules of a folder of a package."""
    (package / "core").mkdir(parents=True, exist_ok=True)
    for name, source in modules.items():
        (package / "core" / f"{name}.py").write_text(source)
    return sorted(path.relative_to(package).as_posix() for path in package.rglob("*.py"))


MANY = "\n".join(f"x{number} = a{number} == b" for number in range(40))


def test_a_sample_is_random_and_repeatable(tmp_path: Path) -> None:
    """Of the wanted size, by its seed, and a smaller one is the beginning of a larger one."""
    modules = write(tmp_path, m=MANY)
    sites, mutants = sample(tmp_path, modules, "seed", 10)
    assert (sites, len(set(mutants))) == (40, 10)
    assert sample(tmp_path, modules, "seed", 20)[1][:10] == mutants
    assert sample(tmp_path, modules, "other", 10)[1] != mutants
    assert len(sample(tmp_path, modules, "seed", 100)[1]) == 40
    assert {(mutant.path, mutant.old.replace("==", "!=") == mutant.new) for mutant in mutants} == {("core/m.py", True)}


def test_a_change_elsewhere_leaves_the_order_of_a_sample(tmp_path: Path) -> None:
    """So that a new line or module does not bring a wholly different sample."""
    _, before = sample(tmp_path, write(tmp_path, m=MANY), "seed", 40)
    _, after = sample(tmp_path, write(tmp_path, m=f"y = c == d\n{MANY}", n="f()\n"), "seed", 100)
    assert len(after) == 42
    kept = {mutant.old for mutant in before}
    assert [mutant.old for mutant in after if mutant.old in kept] == [mutant.old for mutant in before]


def test_a_mutant_that_is_not_python_is_not_drawn(tmp_path: Path) -> None:
    """It would only be killed by the parser."""
    sites, mutants = sample(tmp_path, write(tmp_path, m="def f(a, *, b): return a\nx = a * b\n"), "seed", 10)
    assert sites > len(mutants)
    assert {mutant.new for mutant in mutants} == {"x = a + b"}
