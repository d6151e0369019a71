"""`sidekey ca`: show the local CA and the trust folder, and rotate the CA in steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from sidekey.ca import maintain
from sidekey.ca import trust_folder as trust
from sidekey.ca.authorities import Authorities, CaRules, LocalAuthority, RotationError
from sidekey.ca.maintain import MaintenanceResult
from sidekey.ca.scope import NO_NAME
from sidekey.ca.storage import FolderError, state_file
from sidekey.cli.config import load_snapshot
from sidekey.cli.groups import Group
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json

T = TypeVar("T")


class CaError(Exception):
    """The command failed. The message says why and what to do."""


def _ensure_authorities(rules: CaRules) -> MaintenanceResult:
    """Create missing CAs and write the trust folder. Raises CaError."""
    _check_user(rules)
    result = maintain.ensure_authorities(rules, time.time())
    if result.problem:
        raise CaError(result.problem)
    return result


def _check_user(rules: CaRules) -> None:
    """Raise CaError if the CA or the trust folder belongs to another user.

    Root could create files that Sidekey or its callers cannot read.
    """
    user = os.geteuid()
    files = [] if rules.uses_operator_ca or rules.folder is None else [state_file(rules.folder)]
    files += [] if rules.trust_folder is None else [rules.trust_folder / trust.BUNDLE]
    for file in files:
        existing = next(path for path in (file, *file.parents) if os.path.exists(path))  # noqa: PTH110 - never raises
        owner = existing.stat().st_uid
        # A folder of another user is no error for anyone but root: a volume belongs to root, and Sidekey writes to it
        # through its group.
        if owner != user and (existing == file or not user):
            raise CaError(f"{existing} belongs to the user {owner}: run this command as the user that Sidekey runs as")


def describe(rules: CaRules) -> dict[str, Any]:
    """Build the JSON of `sidekey ca show`. Raises CaError."""
    result = _ensure_authorities(rules)
    ca_file = None if rules.uses_operator_ca or rules.folder is None else str(state_file(rules.folder))
    return {
        "kept_in": ca_file,
        "trust_folder": None if result.trust_problem else str(rules.trust_folder),
        "authorities": [_describe(authority, result.authorities) for authority in result.authorities.members],
    }


def _describe(authority: LocalAuthority, authorities: Authorities) -> dict[str, Any]:
    names = [bound.names for bound in authority.bounds if bound.names is not None]
    networks = [bound.networks for bound in authority.bounds if bound.networks is not None]
    return {
        "role": _role(authority, authorities),
        "fingerprint": authority.fingerprint,
        "not_after": f"{datetime.fromtimestamp(authority.not_after, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "names": sorted({name for group in names for name in group if name != NO_NAME}) if names else None,
        "networks": sorted({str(network) for group in networks for network in group}),
    }


def _role(authority: LocalAuthority, authorities: Authorities) -> str:
    if authority.generation == authorities.signing:
        return "signs"
    return "next" if authority.generation > authorities.signing else "old"


def lines(description: dict[str, Any]) -> list[str]:
    """Format the result of `describe` as text."""
    text = []
    for authority in description["authorities"]:
        hosts = ["any name"] if authority["names"] is None else authority["names"]
        text += [
            f"{authority['role']}: SHA-256 {authority['fingerprint']}, until {authority['not_after']}",
            f"  for {', '.join([*hosts, *authority['networks']]) or 'no host'}",
        ]
    text.append(f"kept in {description['kept_in'] or 'files of your own (ca.certificate, ca.private_key)'}")
    folder = description["trust_folder"]
    text.append(f"callers trust the files in {folder}" if folder else "the trust folder cannot be written: see the log")
    return text


def paths(rules: CaRules) -> dict[str, str]:
    """Write the trust folder, and return the paths of its files by name. Raises CaError."""
    result = _ensure_authorities(rules)
    if result.trust_problem or rules.trust_folder is None:
        raise CaError(result.trust_problem)
    return {name: str(path) for name, path in trust.paths(rules.trust_folder).items()}


def trust_folder(rules: CaRules) -> Path:
    """Write missing files of the trust folder, and return the folder. Raises CaError.

    A complete folder of another user stays unchanged: Sidekey runs as that user, and signs with that user's CA.
    """
    folder = rules.trust_folder
    is_complete = folder is not None and trust.find_missing_file(folder) is None
    if folder is not None and is_complete and folder.stat().st_uid != os.geteuid():
        return folder
    _check_user(rules)
    result = maintain.ensure_authorities(rules, time.time())
    reason = result.problem or result.trust_problem
    if folder is None or (reason and not is_complete):
        raise CaError(reason)
    return folder


def bundle(rules: CaRules) -> str:
    """Return the CA bundle for callers, in PEM. Raises CaError."""
    return trust.bundle(
        maintain.trusted_pem(_ensure_authorities(rules).authorities), rules.extra_roots, trust.mozilla_pem()
    )


_NEXT_STEPS = {
    "next": "the next CA is in the trust folder: restart the callers, then run sidekey ca rotate --activate",
    "activate": "the next CA signs from now on; once no caller needs the old one, run sidekey ca rotate --retire",
    "retire": "the old CA is gone",
}


def rotate(rules: CaRules, step: str) -> str:
    """Take a step of a rotation (next, activate or retire), and return what to do next. Raises CaError.

    A running Sidekey notices that the file changed.
    """
    _check_user(rules)
    try:
        result = maintain.rotate(rules, time.time(), step)
    except (RotationError, FolderError) as error:
        raise CaError(str(error)) from None
    if result.trust_problem:
        raise CaError(result.trust_problem)
    return _NEXT_STEPS[step]


@click.group("ca", cls=Group)
def command() -> None:
    """Show and replace the local CA, which signs for tunnels."""


@command.command("show")
@config_option
@json_option
def show_command(config: str | None, as_json: bool) -> None:
    """List the local CAs: use, fingerprint, expiry, hosts.

    The command creates a CA if there is none.
    """
    description = _run(config, describe)
    if as_json:
        print_json(description)
        return
    for line in lines(description):
        click.echo(line)


@command.command("path")
@config_option
@json_option
def path_command(config: str | None, as_json: bool) -> None:
    """Print the path of ca.pem.

    With --json, print the path of each file in the trust folder.
    """
    files = _run(config, paths)
    if as_json:
        print_json(files)
    else:
        click.echo(files["ca.pem"])


@command.command("bundle")
@config_option
def bundle_command(config: str | None) -> None:
    """Print the CA bundle that callers must trust, in PEM.

    It contains Mozilla's CAs, those of ca.extra_roots, and the local CAs.
    """
    click.echo(_run(config, bundle), nl=False)


@command.command("rotate")
@config_option
@click.option(
    "--activate", "step", flag_value="activate", help="Sign with the next CA. Do this after all callers have restarted."
)
@click.option(
    "--retire", "step", flag_value="retire", help="Remove the old CA. Do this when no caller needs it any more."
)
def rotate_command(config: str | None, step: str | None) -> None:
    """Add the next CA; then --activate it, and --retire the old one.

    Callers trust the next CA when they restart.
    """
    click.echo(_run(config, lambda rules: rotate(rules, step or "next")))


def _run(config: str | None, work: Callable[[CaRules], T]) -> T:
    try:
        return work(load_snapshot(config).ca)
    except CaError as error:
        fail(error)
