"""What is published of a run: `results.json`, where each survivor has its reason, and the page that is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mutation.mutants import Mutant
from mutation.running import Outcome

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "mutation.md"

FLOORS = {"core": 90, "dataplane": 80}
"""The share of mutants, in per cent, that the tests of each folder of the package must kill."""

HEAD = """# Mutation testing

A mutant is the code with one small change: a condition negated, a statement dropped, a number, string or operator
replaced. The tests kill it if one of them fails. A mutant that survives shows a change that no test would notice.

`make mutants` draws a random sample of at least 400 mutants a package, with a fixed seed, runs the tests against each
and writes this page. A mutant meets the tests that execute the statement it changes; no other can tell it from the
code. The share counts every mutant of the sample; those that cannot be told from the code, whatever a test does, are
listed and not left out. CI runs the first of the same sample, and fails where one survives that is not listed here. A
reason is written by hand, into `tests/mutation/results.json`, and `make mutants` keeps it as long as the mutant
survives.

Most changes are those of [cosmic-ray](https://github.com/sixty-north/cosmic-ray); `tests/mutation/mutants.py` has
them all.
"""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test killed, and why none should or could; empty where nobody has said yet."""

    path: str
    scope: str
    old: str
    new: str
    reason: str = ""

    @property
    def change(self) -> tuple[str, str, str, str]:
        """What makes it the same mutant in another run."""
        return self.path, self.scope, self.old, self.new


@dataclass(frozen=True, slots=True)
class Result:
    """The run of one folder of the package."""

    sites: int
    """How many changes there are to draw from."""
    outcomes: dict[str, int]
    survivors: list[Survivor]

    @property
    def size(self) -> int:
        """How many mutants were drawn."""
        return sum(self.outcomes.values())

    @property
    def share(self) -> float:
        """The share of them that was killed, in per cent."""
        return 100 * (self.size - len(self.survivors)) / self.size

    @classmethod
    def of(cls, sites: int, outcomes: Iterable[tuple[Mutant, Outcome]], known: Mapping[str, Result]) -> Result:
        """What a run found; a survivor that is known keeps its reason."""
        reasons = {survivor.change: survivor.reason for result in known.values() for survivor in result.survivors}
        counts = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        survivors = []
        for mutant, outcome in outcomes:
            counts[outcome.value] += 1
            if outcome is Outcome.SURVIVED:
                change = mutant.path, mutant.scope, mutant.old, mutant.new
                survivors.append(Survivor(*change, reasons.get(change, "")))
        return cls(sites, counts, sorted(survivors, key=lambda survivor: survivor.change))

    @property
    def unexplained(self) -> list[Survivor]:
        """Those of which nobody has said why they survive."""
        return [survivor for survivor in self.survivors if not survivor.reason]


def read() -> dict[str, Result]:
    """The published results, by folder of the package."""
    written = json.loads(RESULTS.read_text("utf-8"))
    return {
        folder: Result(row["sites"], row["outcomes"], [Survivor(**survivor) for survivor in row["survivors"]])
        for folder, row in written.items()
    }


def write(results: Mapping[str, Result]) -> None:
    """Publish results: the file, and the page made of it."""
    rows = {folder: asdict(results[folder]) for folder in sorted(results)}
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(page(results), "utf-8")


def page(results: Mapping[str, Result]) -> str:
    """docs/mutation.md."""
    outcomes = [outcome.value for outcome in Outcome]
    lines = [
        HEAD,
        f"| package | possible changes | sample | {' | '.join(outcomes)} | share killed | must be at least |",
        f"|---|--:|--:|{'--:|' * len(outcomes)}--:|--:|",
    ]
    for folder, result in sorted(results.items()):
        counts = " | ".join(str(result.outcomes[outcome]) for outcome in outcomes)
        row = f"| `{folder}/` | {result.sites} | {result.size} | {counts}"
        lines.append(f"{row} | {result.share:.1f} % | {FLOORS[folder]} % |")
    for folder, result in sorted(results.items()):
        lines += ["", f"## Survivors in `{folder}/`"]
        for survivor in result.survivors:
            where = f"`{survivor.path}`" + (f", `{survivor.scope}`" if survivor.scope else "")
            changed = [f"- {line}" for line in survivor.old.split("\n")] + [
                f"+ {line}" for line in survivor.new.split("\n")
            ]
            lines += ["", f"{where}: {survivor.reason}", "", "```diff", *changed, "```"]
    return "\n".join(lines) + "\n"
