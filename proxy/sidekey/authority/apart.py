"""Makes the CA in a child process, so that the one that serves never loads cryptography where nobody opens a tunnel.

It would cost 13 MiB for as long as the process lives; the child costs its CPU once. Run as `python -m` with what to do
as JSON on standard input; the caller looks at the files for what came of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

from sidekey.authority import folder as state
from sidekey.authority import keep, trust
from sidekey.authority.folder import FolderError
from sidekey.authority.keep import Settled
from sidekey.authority.local import Authorities
from sidekey.authority.rules import CaRules
from sidekey.authority.scope import Scope
from sidekey.process import protect_memory

_TIMEOUT = 30.0
_PASSED_ON = ("PYTHON", "LD_", "PATH", "LANG", "LC_")


def settle(rules: CaRules, now: float) -> Settled:
    """As `keep.settle`, by a child where something must be made and cryptography is not there yet."""
    if rules.brought or rules.folder is None or "cryptography" in sys.modules:
        return keep.settle(rules, now)
    try:
        before = state.read(rules.folder)
    except FolderError:
        return keep.settle(rules, now)
    if not _must_make(rules, before, now) or not _may_write(rules.folder):
        return keep.settle(rules, now)
    _run(rules, now)
    # It finds all in place, or does what the child could not.
    found = keep.settle(rules, now)
    known = set() if before is None else {each.fingerprint for each in before.every}
    made = tuple(each for each in found.authorities.every if each.fingerprint not in known)
    return Settled(found.authorities, made, not known, found.problem, found.untold)


def _must_make(rules: CaRules, kept: Authorities | None, now: float) -> bool:
    if kept is None or kept.missing(rules.scope, now):
        return True
    folder = rules.trust_folder
    return folder is not None and not trust.current(folder, keep.trusted(kept), rules.extra_roots)


def _may_write(folder: Path) -> bool:
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    return os.access(nearest, os.W_OK | os.X_OK)


def _run(rules: CaRules, now: float) -> None:
    task = {
        "folder": str(rules.folder),
        "trust_folder": None if rules.trust_folder is None else str(rules.trust_folder),
        "names": sorted(rules.scope.names),
        "addresses": sorted(map(str, rules.scope.addresses)),
        "extra_roots": rules.extra_roots,
        "now": now,
    }
    # -P: no module of the working directory. The environment may hold secrets, which the child has no use for.
    command = [sys.executable, "-P", "-m", "sidekey.authority.apart"]
    environment = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - this very interpreter
            command,
            input=json.dumps(task).encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )


def main() -> None:
    """What the child does."""
    protect_memory()
    task = json.load(sys.stdin)
    rules = CaRules(
        folder=Path(task["folder"]),
        trust_folder=None if task["trust_folder"] is None else Path(task["trust_folder"]),
        scope=Scope(frozenset(task["names"]), frozenset(map(ip_address, task["addresses"]))),
        extra_roots=task["extra_roots"],
    )
    keep.settle(rules, task["now"])


if __name__ == "__main__":
    main()
