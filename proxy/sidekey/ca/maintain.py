"""Brings the kept CAs and the trust folder to what a config needs. Blocks: on the event loop it has a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidekey.ca import storage as state
from sidekey.ca import trust_folder
from sidekey.ca.authorities import Authorities, CaRules, LocalAuthority, RotationError
from sidekey.ca.certificates import make_authority
from sidekey.ca.scope import Scope
from sidekey.ca.storage import FolderError
from sidekey.ca.trust_folder import TrustFolderError

NONE: Final = Authorities()
"""No CA, as before the first is made."""

_NO_FOLDER = "set ca.folder: neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME says where a CA may be kept"
_NO_OWN = "ca.certificate and ca.private_key cannot be used: run sidekey check"


@dataclass(frozen=True, slots=True)
class MaintenanceResult:
    """What came of it.

    `problem` says why there is no CA, or none for some hosts; `untold` why callers cannot read what they must trust.
    `made` are the CAs that are new, `first` says that there was none before.
    """

    authorities: Authorities = NONE
    made: tuple[LocalAuthority, ...] = ()
    first: bool = False
    problem: str = ""
    untold: str = ""


def ensure_authorities(rules: CaRules, now: float) -> MaintenanceResult:
    """Make what is missing of the CAs and of the trust folder; `now` is in seconds since the epoch.

    Raises nothing for what the config or the file system is.
    """
    if rules.brought:
        found = (
            MaintenanceResult(problem=_NO_OWN) if rules.own is None else MaintenanceResult(Authorities(0, (rules.own,)))
        )
    elif rules.folder is None:
        found = MaintenanceResult(problem=_NO_FOLDER)
    else:
        found = _kept(rules.folder, rules.scope, now)
    untold = _tell(rules, found.authorities) if found.authorities.every else ""
    return MaintenanceResult(found.authorities, found.made, found.first, found.problem, untold)


def _kept(folder: Path, scope: Scope, now: float) -> MaintenanceResult:
    try:
        before = state.read(folder)
    except FolderError as error:
        return MaintenanceResult(problem=str(error))
    if before is not None and not before.missing(scope, now):
        return MaintenanceResult(before)
    try:
        # Another process may have made it meanwhile: what counts is what is there under the lock.
        after = state.update(folder, lambda kept: (kept or NONE).ensure(scope, now, maker(now)))
    except (FolderError, RotationError) as error:
        return MaintenanceResult(before or NONE, problem=str(error))
    known = {each.fingerprint for each in before.every} if before is not None else set()
    made = tuple(each for each in after.every if each.fingerprint not in known)
    return MaintenanceResult(after, made, first=not known)


def maker(now: float) -> Callable[[Scope, int], LocalAuthority]:
    """Return the function that makes a CA for a scope and a generation."""
    return lambda scope, generation: make_authority(scope, generation, now)


def rotate(rules: CaRules, now: float, step: str) -> MaintenanceResult:
    """Add the `next` CA, `activate` it, or `retire` the old. Raises RotationError, FolderError."""
    if rules.brought:
        raise RotationError("ca.certificate names a CA of your own: replace its files, which Sidekey watches")
    if rules.folder is None:
        raise RotationError(_NO_FOLDER)

    def change(kept: Authorities | None) -> Authorities:
        current = (kept or NONE).ensure(rules.scope, now, maker(now))
        if step == "activate":
            return current.activate()
        return current.retire() if step == "retire" else current.add_next(rules.scope, maker(now))

    after = state.update(rules.folder, change)
    return MaintenanceResult(after, untold=_tell(rules, after))


def trusted(authorities: Authorities) -> str:
    """What callers must trust for all of these, in PEM."""
    return trust_folder.certificates_in("".join(each.trusted for each in authorities.every))


def _tell(rules: CaRules, authorities: Authorities) -> str:
    """Write the trust folder; why it cannot be."""
    if rules.trust_folder is None:
        return "set ca.trust_folder: there is no ca.folder to put it in"
    try:
        trust_folder.write(rules.trust_folder, trusted(authorities), rules.extra_roots)
    except TrustFolderError as error:
        return str(error)
    return ""
