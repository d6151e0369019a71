"""Create and rotate the stored CAs, and write the trust folder. Blocking: call it in a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sidekey.ca import storage, trust_folder
from sidekey.ca.authorities import Authorities, CaRules, LocalAuthority, RotationError
from sidekey.ca.certificates import create_authority
from sidekey.ca.scope import Scope
from sidekey.ca.storage import FolderError
from sidekey.ca.trust_folder import TrustFolderError

_NO_AUTHORITIES: Final = Authorities()
"""No CA, as before the first one is created."""

_NO_FOLDER = "set ca.folder: neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME says where a CA may be kept"
_UNUSABLE_CA = "ca.certificate and ca.private_key cannot be used: run sidekey check"


@dataclass(frozen=True, slots=True)
class MaintenanceResult:
    """Result of `ensure_authorities` and `rotate`.

    `problem` is the reason why some or all hosts have no CA, and `trust_problem` why the trust folder was not written.
    `created` are the CAs that `ensure_authorities` created. `first` is true if there was no CA before.
    """

    authorities: Authorities = _NO_AUTHORITIES
    created: tuple[LocalAuthority, ...] = ()
    first: bool = False
    problem: str = ""
    trust_problem: str = ""


def ensure_authorities(rules: CaRules, now: float) -> MaintenanceResult:
    """Create missing CAs and write the trust folder; `now` is in seconds since the epoch.

    The result has the errors of the config and the file system.
    """
    if rules.uses_operator_ca:
        ca = rules.operator_ca
        if ca is None:
            return MaintenanceResult(problem=_UNUSABLE_CA)
        result = MaintenanceResult(Authorities(ca.generation, (ca,)))
    elif rules.folder is None:
        result = MaintenanceResult(problem=_NO_FOLDER)
    else:
        result = _ensure_stored(rules.folder, rules.scope, now)
    if not result.authorities.members:
        return result
    return replace(result, trust_problem=_write_trust_folder(rules, result.authorities))


def _ensure_stored(folder: Path, scope: Scope, now: float) -> MaintenanceResult:
    try:
        previous = storage.read(folder)
    except FolderError as error:
        return MaintenanceResult(problem=str(error))
    if previous is not None and not previous.find_missing(scope, now):
        return MaintenanceResult(previous)
    try:
        # Another process may have created the missing CAs meanwhile: `update` reads again under the lock.
        authorities = storage.update(
            folder, lambda stored: (stored or _NO_AUTHORITIES).ensure(scope, now, authority_factory(now))
        )
    except (FolderError, RotationError) as error:
        return MaintenanceResult(previous or _NO_AUTHORITIES, problem=str(error))
    known = {ca.fingerprint for ca in previous.members} if previous is not None else set()
    created = tuple(ca for ca in authorities.members if ca.fingerprint not in known)
    return MaintenanceResult(authorities, created, first=not known)


def authority_factory(now: float) -> Callable[[Scope, int], LocalAuthority]:
    """Return a function that creates a CA for a scope and a generation."""
    return lambda scope, generation: create_authority(scope, generation, now)


def rotate(rules: CaRules, now: float, step: str) -> MaintenanceResult:
    """Add the `next` CA, `activate` it, or `retire` the old ones. Raises RotationError, FolderError."""
    if rules.uses_operator_ca:
        raise RotationError("ca.certificate names a CA of your own: replace its files, which Sidekey watches")
    if rules.folder is None:
        raise RotationError(_NO_FOLDER)

    def change(stored: Authorities | None) -> Authorities:
        current = (stored or _NO_AUTHORITIES).ensure(rules.scope, now, authority_factory(now))
        if step == "activate":
            return current.activate()
        return current.retire() if step == "retire" else current.add_next(rules.scope, authority_factory(now))

    authorities = storage.update(rules.folder, change)
    return MaintenanceResult(authorities, trust_problem=_write_trust_folder(rules, authorities))


def trusted_pem(authorities: Authorities) -> str:
    """Return the certificates that callers must trust, in PEM."""
    return trust_folder.certificates_in("".join(ca.trusted for ca in authorities.members))


def _write_trust_folder(rules: CaRules, authorities: Authorities) -> str:
    """Write the trust folder. Return an error text, or an empty string."""
    if rules.trust_folder is None:
        return "set ca.trust_folder: there is no ca.folder to put it in"
    try:
        trust_folder.write(rules.trust_folder, trusted_pem(authorities), rules.extra_roots)
    except TrustFolderError as error:
        return str(error)
    return ""
