"""`sidekey ca`: shows the local CA and what callers must trust, and replaces it step by step."""

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
    """What was asked for cannot be done; the message says why and the way out."""


def made(rules: CaRules) -> MaintenanceResult:
    """The CAs of this config, made where they are missing. Raises CaError."""
    _check_user(rules)
    found = maintain.ensure_authorities(rules, time.time())
    if found.problem:
        raise CaError(found.problem)
    return found


def _check_user(rules: CaRules) -> None:
    """Leave to another user what their Sidekey keeps and shows. Raises CaError.

    Root could replace it by what callers cannot use, or make what Sidekey then may not read.
    """
    user = os.geteuid()
    files = [] if rules.uses_operator_ca or rules.folder is None else [state_file(rules.folder)]
    files += [] if rules.trust_folder is None else [rules.trust_folder / trust.BUNDLE]
    for file in files:
        found = next(each for each in (file, *file.parents) if os.path.exists(each))  # noqa: PTH110 - asks, raises not
        owner = found.stat().st_uid
        # Any other user writes where they may: a volume is root's, and Sidekey's by its group.
        if owner != user and (found == file or not user):
            raise CaError(f"{found} belongs to the user {owner}: run this command as the user that Sidekey runs as")


def described(rules: CaRules) -> dict[str, Any]:
    """What `ca show` prints, for machines. Raises CaError."""
    found = made(rules)
    kept = None if rules.uses_operator_ca or rules.folder is None else str(state_file(rules.folder))
    return {
        "kept_in": kept,
        "trust_folder": None if found.trust_problem else str(rules.trust_folder),
        "authorities": [_described(each, found.authorities) for each in found.authorities.members],
    }


def _described(authority: LocalAuthority, authorities: Authorities) -> dict[str, Any]:
    names = [each.names for each in authority.bounds if each.names is not None]
    networks = [each.networks for each in authority.bounds if each.networks is not None]
    return {
        "role": _role(authority, authorities),
        "fingerprint": authority.fingerprint,
        "not_after": f"{datetime.fromtimestamp(authority.not_after, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "names": sorted({name for each in names for name in each if name != NO_NAME}) if names else None,
        "networks": sorted({str(network) for each in networks for network in each}),
    }


def _role(authority: LocalAuthority, authorities: Authorities) -> str:
    if authority.generation == authorities.signing:
        return "signs"
    return "next" if authority.generation > authorities.signing else "old"


def lines(description: dict[str, Any]) -> list[str]:
    """The same, for people."""
    found = []
    for each in description["authorities"]:
        hosts = ["any name"] if each["names"] is None else each["names"]
        found += [
            f"{each['role']}: SHA-256 {each['fingerprint']}, until {each['not_after']}",
            f"  for {', '.join([*hosts, *each['networks']]) or 'no host'}",
        ]
    found.append(f"kept in {description['kept_in'] or 'files of your own (ca.certificate, ca.private_key)'}")
    folder = description["trust_folder"]
    found.append(f"callers trust what is in {folder}" if folder else "the trust folder cannot be written: see the log")
    return found


def paths(rules: CaRules) -> dict[str, str]:
    """The files of the trust folder by their names, written where they were not. Raises CaError."""
    found = made(rules)
    if found.trust_problem or rules.trust_folder is None:
        raise CaError(found.trust_problem)
    return {name: str(path) for name, path in trust.paths(rules.trust_folder).items()}


def trust_folder(rules: CaRules) -> Path:
    """The trust folder with all its files, made where they are missing. Raises CaError.

    It may be another user's, under whom Sidekey runs: then it is taken as it is. What a CA of this user's would put
    there in its place, callers could not use.
    """
    folder = rules.trust_folder
    there = folder is not None and trust.missing(folder) is None
    if folder is not None and there and folder.stat().st_uid != os.geteuid():
        return folder
    _check_user(rules)
    found = maintain.ensure_authorities(rules, time.time())
    reason = found.problem or found.trust_problem
    if folder is None or (reason and not there):
        raise CaError(reason)
    return folder


def bundle(rules: CaRules) -> str:
    """What replaces the roots of a client, in PEM. Raises CaError."""
    return trust.bundle(maintain.trusted_pem(made(rules).authorities), rules.extra_roots, trust.mozilla())


_DONE = {
    "next": "the next CA is in the trust folder: restart the callers, then run sidekey ca rotate --activate",
    "activate": "the next CA signs from now on; once no caller needs the old one, run sidekey ca rotate --retire",
    "retire": "the old CA is gone",
}


def rotate(rules: CaRules, step: str) -> str:
    """Take a step of a rotation (next, activate or retire); says what is to be done then. Raises CaError.

    A running Sidekey sees it by the change of the file.
    """
    _check_user(rules)
    try:
        found = maintain.rotate(rules, time.time(), step)
    except (RotationError, FolderError) as error:
        raise CaError(str(error)) from None
    if found.trust_problem:
        raise CaError(found.trust_problem)
    return _DONE[step]


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
    description = _of_ca(config, described)
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
    found = _of_ca(config, paths)
    if as_json:
        print_json(found)
    else:
        click.echo(found["ca.pem"])


@command.command("bundle")
@config_option
def bundle_command(config: str | None) -> None:
    """Print the CA bundle that callers must trust, in PEM.

    It contains Mozilla's CAs, those of ca.extra_roots, and the local CAs.
    """
    click.echo(_of_ca(config, bundle), nl=False)


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
    click.echo(_of_ca(config, lambda rules: rotate(rules, step or "next")))


def _of_ca(config: str | None, ask: Callable[[CaRules], T]) -> T:
    try:
        return ask(load_snapshot(config).ca)
    except CaError as error:
        fail(error)
