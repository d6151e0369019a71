"""Build the rules of the local CA: its folders, its scope, and the operator's CA, if any."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from sidekey.ca import trust_folder as trust
from sidekey.ca.authorities import CaRules, LocalAuthority
from sidekey.ca.operator_ca import check_operator_ca
from sidekey.ca.scope import Scope
from sidekey.config.build.last_load import LastLoad
from sidekey.config.ca_bundles import MAX_BUNDLE_SIZE, check_bundle
from sidekey.config.errors import LocatedErrors
from sidekey.config.file_stamps import is_folder
from sidekey.config.models import CaSettings, GlobalSettings
from sidekey.config.secrets import SecretReader, describe_source
from sidekey.credentials.fields import Reference
from sidekey.policy.targets import Policy

TRUST_FOLDER_NAME = "trust"
"""Name of the trust folder in the CA's folder, unless the config names another."""


class BuiltCa(NamedTuple):
    """The rules of the local CA, and the warnings."""

    rules: CaRules
    warnings: LocatedErrors


def build_ca(
    settings: GlobalSettings,
    policies: Iterable[Policy],
    read: SecretReader,
    *,
    config: Path,
    environ: Mapping[str, str],
    previous: CaRules | None,
    last: LastLoad,
    now: float,
) -> BuiltCa:
    """Build the rules of the local CA for the config at this path.

    `previous` are the rules of the last load without errors, of which `last` keeps what is unreadable and unchanged.
    """
    ca = settings.ca
    folder = _default_folder(config, environ) if ca.folder is None else read.path(ca.folder)
    trust_folder = read.path(ca.trust_folder) if ca.trust_folder is not None else None
    if trust_folder is None and folder is not None:
        trust_folder = folder / TRUST_FOLDER_NAME
    extra_roots, reasons = _read_extra_roots(ca, read)
    for loc, reason in reasons:
        old_roots = None if previous is None else previous.extra_roots or None
        extra_roots = last.keep(old_roots, ("ca",), loc=loc, reason=reason) or extra_roots
    rules = CaRules(
        folder=None if folder is None else folder.absolute(),
        trust_folder=None if trust_folder is None else trust_folder.absolute(),
        scope=Scope.of(policies, ca.hosts),
        hosts=tuple(ca.hosts),
        extra_roots=extra_roots,
        configured="ca" in settings.model_fields_set or settings.forward.match_by_host,
        uses_operator_ca=ca.certificate is not None and ca.private_key is not None,
    )
    if ca.certificate is None or ca.private_key is None:
        return BuiltCa(rules, [])
    operator_ca, reasons, warnings = _read_operator_ca((ca.certificate, ca.private_key), read, rules, now)
    # A CA with an error that can sign for some hosts is used.
    kept = None if operator_ca is not None or previous is None else previous.operator_ca
    for loc, reason in reasons:
        kept = last.keep(kept, ("ca",), loc=loc, reason=reason)
    return BuiltCa(replace(rules, operator_ca=operator_ca or kept), warnings)


def _default_folder(config: Path, environ: Mapping[str, str]) -> Path | None:
    """Return the folder of this config's state, so that two configs of one user share no CA."""
    base = _state_folder(environ)
    return None if base is None else base / _folder_name(config)


_MAX_NAME_LENGTH: Final = 100


def _folder_name(config: Path) -> str:
    """Return a name for the state of a config, such as `etc-sidekey-906f2f23fc35`, that no other path has."""
    # Resolve links of folders, so that all spellings of a path have one name. Keep the link of a file: Kubernetes
    # replaces its target at each update.
    path = os.path.realpath(config) if is_folder(config) else f"{os.path.realpath(config.parent)}/{config.name}"
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", path)[-_MAX_NAME_LENGTH:].strip("-.")
    return f"{readable}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}".removeprefix("-")


def _state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for state, by systemd (systemd.exec(5)) or the XDG base directory specification."""
    # systemd separates several folders by colons.
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory:
        return Path(state_directory)
    base, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    # The specification says to ignore a relative path.
    if base.startswith("/"):
        return Path(base) / "sidekey"
    return Path(home) / ".local" / "state" / "sidekey" if home.startswith("/") else None


def _read_extra_roots(ca: CaSettings, read: SecretReader) -> tuple[str, LocatedErrors]:
    roots = []
    unreadable: LocatedErrors = []
    for index, reference in enumerate(ca.extra_roots):
        try:
            roots.append(_read_roots(reference, read))
        except ValueError as error:
            unreadable.append((("ca", "extra_roots", index), str(error)))
    return "".join(roots), unreadable


def _read_roots(reference: Reference, read: SecretReader) -> str:
    # Text between the certificates may be in any encoding.
    text = read.raw(reference, MAX_BUNDLE_SIZE).decode("latin-1").encode("ascii", "replace").decode()
    try:
        check_bundle(text)
        return trust.certificates_in(text)
    except ValueError as error:
        subject = (
            describe_source(reference.source, reference.value) if reference.source in ("file", "env") else "the value"
        )
        raise ValueError(f"{subject} {error}") from None


def _read_operator_ca(
    references: tuple[Reference, Reference], read: SecretReader, rules: CaRules, now: float
) -> tuple[LocalAuthority | None, LocatedErrors, LocatedErrors]:
    """Read the operator's certificate and key. Return the CA, errors and warnings."""
    texts = []
    unreadable: LocatedErrors = []
    for key, reference in zip(("certificate", "private_key"), references, strict=True):
        try:
            texts.append(read(reference))
        except ValueError as error:
            unreadable.append((("ca", key), str(error)))
    if unreadable:
        return None, unreadable, []
    certificate, private_key = texts
    examined = check_operator_ca(certificate, private_key, rules.scope, now, rules.extra_roots)

    def reasons(messages: Iterable[tuple[str, str]]) -> LocatedErrors:
        return [(("ca", key), text) for key, text in messages]

    return examined.authority, reasons(examined.errors), reasons(examined.warnings)
