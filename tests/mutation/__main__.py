"""`make mutants`: run the tests against a random sample of mutants, and publish or check what comes out.

Without `--sample` the whole sample is run and published. With it only the first so many are, and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from mutation import report
from mutation.mutants import sample
from mutation.report import FLOORS, Result
from mutation.running import Outcome, Project, rehearse, run

SEED = "sidekey"
SIZE = 420

ROOT = Path(__file__).parents[2]
PROJECT = Project(
    package=ROOT / "proxy" / "sidekey",
    tests=ROOT / "tests",
    common={"core": ("sidekey.core",), "dataplane": ("support.scripted", "support.memory")},
)


def measure(folder: str, size: int, jobs: int, known: dict[str, Result]) -> Result:
    """Run the sample of one folder of the package, and say how it goes."""
    sites, mutants = sample(PROJECT.package, PROJECT.modules(folder), SEED, size)
    reach = rehearse(PROJECT, folder, jobs=jobs)
    began = time.monotonic()
    outcomes = []
    patience = 30 + 3 * sum(reach.seconds.values())
    for mutant, outcome in run(PROJECT, mutants, reach, jobs=jobs, patience=patience):
        outcomes.append((mutant, outcome))
        if outcome is Outcome.SURVIVED:
            sys.stdout.write(f"{mutant.path}: {mutant.scope}\n  - {mutant.old}\n  + {mutant.new}\n")
            sys.stdout.flush()
    result = Result.of(sites, outcomes, known)
    seconds = time.monotonic() - began
    sys.stdout.write(f"{folder}: {result.share:.1f} % of {result.size} mutants killed, in {seconds:.0f} s\n")
    return result


def problems(folder: str, result: Result, *, whole: bool) -> list[str]:
    """What is not as it must be."""
    found = [
        f"{survivor.path}: {survivor.scope}: the mutant `{survivor.new}` survives: "
        f"test what it changes, or say in {report.RESULTS.name} why not"
        for survivor in result.unexplained
    ]
    if whole and result.share < FLOORS[folder]:
        found.append(f"{folder}: at least {FLOORS[folder]} % of the mutants must be killed")
    return found


def main() -> int:
    """0 where every survivor is explained and, of the whole sample, enough are killed."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("folders", nargs="*", default=list(FLOORS))
    parser.add_argument("--sample", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    os.environ["CI"] = "1"  # Hypothesis then draws the same examples in every run
    found = []
    for folder in arguments.folders:
        result = measure(folder, arguments.sample or SIZE, arguments.jobs, report.read())
        found += problems(folder, result, whole=arguments.sample is None)
        if arguments.sample is None:
            report.write(report.read() | {folder: result})  # another run may have written the other's
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
