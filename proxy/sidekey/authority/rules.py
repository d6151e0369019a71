"""What a config says of the local CA, ready for use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sidekey.authority.local import Authority
from sidekey.authority.scope import Scope


@dataclass(frozen=True, slots=True)
class CaRules:
    """Where the local CA is kept and shown, and which hosts it must cover.

    `folder` is None where neither config nor environment names one; nothing is made then. `configured` says that the
    operator counts on the CA, so that it is worth a warning where it cannot be made. `extra_roots` are certificates in
    PEM that callers trust beside it. `brought` says that the config names a CA of the operator's; it is `own`, None
    while that cannot be used.
    """

    folder: Path | None = None
    trust_folder: Path | None = None
    scope: Scope = field(default_factory=Scope)
    hosts: tuple[str, ...] = ()
    extra_roots: str = field(default="", repr=False)
    configured: bool = False
    brought: bool = False
    own: Authority | None = None
