"""The local CAs that sign or are only trusted, and the steps of a rotation. Values without I/O and clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sidekey.ca.scope import Bounds, Scope
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.json_reader import parse_json

MARK = "Sidekey local CA"
"""The organisation in the subject of every CA that Sidekey creates. `roots` recognises such CAs by it."""

MAX_AUTHORITIES = 64
"""Maximum number of CAs at a time, so that the bundle for callers does not grow without limit."""


class RotationError(ValueError):
    """A rotation step is not possible now. The message names the reason and the remedy."""


@dataclass(frozen=True, slots=True, repr=False)
class LocalAuthority(SecretHolder):
    """A CA with its key, both in PEM. It may sign for hosts that all of `bounds` permit, until `not_after`.

    `served` are the certificates that a TLS server sends after the leaf (RFC 8446 4.4.2), none for a root. `trusted` is
    the certificate that callers must trust. `fingerprint` is the SHA-256 of the CA's certificate, in hex.
    """

    generation: int
    bounds: tuple[Bounds, ...]
    not_after: float
    fingerprint: str
    certificate: str
    key: str
    trusted: str
    served: str = ""

    def __repr__(self) -> str:
        return f"LocalAuthority({self.fingerprint[:12]}, REDACTED)"

    def permits(self, host: str) -> bool:
        """Return True if the CA may sign for this host."""
        return all(bounds.permits(host) for bounds in self.bounds)


CreateAuthority = Callable[[Scope, int], LocalAuthority]
"""Creates a CA for a scope and a generation."""


@dataclass(frozen=True, slots=True, repr=False)
class Authorities(SecretHolder):
    """All local CAs, the oldest first. The CAs of the generation `signing` sign.

    Callers that start now trust newer CAs, too. Callers that have not restarted yet may trust only older ones. A
    generation has several CAs if hosts were added to the config after its first CA was created.
    """

    signing: int = 1
    members: tuple[LocalAuthority, ...] = ()

    def __repr__(self) -> str:
        return f"Authorities({self.signing}, {self.members!r})"

    def find_signer(self, host: str, now: float) -> LocalAuthority | None:
        """Return the valid CA that signs for this host, or None."""
        return next((ca for ca in self.signers if now < ca.not_after and ca.permits(host)), None)

    @property
    def signers(self) -> tuple[LocalAuthority, ...]:
        """The CAs that sign, expired ones included."""
        return tuple(ca for ca in self.members if ca.generation == self.signing)

    @property
    def expires_at(self) -> float | None:
        """The time when the first signing CA expires, or None without a signing CA."""
        return min((ca.not_after for ca in self.signers), default=None)

    def find_missing(self, scope: Scope, now: float) -> dict[int, Scope]:
        """Return the hosts without a valid CA, by generation: the signing one, and the next one if it exists."""
        valid = [ca for ca in self.members if now < ca.not_after]
        missing = {}
        for generation in sorted({self.signing, *(ca.generation for ca in valid if ca.generation > self.signing)}):
            bounds = [bound for ca in valid if ca.generation == generation for bound in ca.bounds]
            outside = scope.outside(bounds)
            if outside or not bounds:
                missing[generation] = outside
        return missing

    def ensure(self, scope: Scope, now: float, create: CreateAuthority) -> Authorities:
        """Add a CA for each missing scope and drop expired CAs. Return the same object if nothing is missing.

        Raises RotationError if there would be too many CAs.
        """
        missing = self.find_missing(scope, now)
        if not missing:
            return self
        valid = tuple(ca for ca in self.members if now < ca.not_after)
        if len(valid) + len(missing) > MAX_AUTHORITIES:
            raise RotationError(
                f"there are {len(valid)} local CAs, at most {MAX_AUTHORITIES} may be: join them with sidekey ca rotate"
            )
        return replace(self, members=(*valid, *(create(part, generation) for generation, part in missing.items())))

    def add_next(self, scope: Scope, create: CreateAuthority) -> Authorities:
        """Add the CA that will sign next, one for the whole scope."""
        if self._newest > self.signing:
            remedy = "restart the callers, then run sidekey ca rotate --activate"
            raise RotationError(f"the next CA is there already: {remedy}")
        return replace(self, members=(*self.members, create(scope, self._newest + 1)))

    def activate(self) -> Authorities:
        """Sign with the next CA from now on."""
        if self._newest == self.signing:
            raise RotationError("there is no next CA: run sidekey ca rotate, then restart the callers")
        return replace(self, signing=self._newest)

    @property
    def _newest(self) -> int:
        return max((ca.generation for ca in self.members), default=self.signing)

    def retire(self) -> Authorities:
        """Drop the CAs of older generations."""
        remaining = tuple(ca for ca in self.members if ca.generation >= self.signing)
        if remaining == self.members:
            raise RotationError("there is no old CA: the one that signs was never replaced")
        return replace(self, members=remaining)

    def to_json(self) -> str:
        """Serialize to JSON, with private keys."""
        document = {"signing": self.signing, "authorities": [_to_dict(ca) for ca in self.members]}
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Authorities:
        """Parse the result of `to_json`. Raises ValueError."""
        try:
            document = parse_json(text)
            return cls(int(document["signing"]), tuple(map(_from_dict, document["authorities"])))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise ValueError("is not what Sidekey has written") from None


def _to_dict(authority: LocalAuthority) -> dict[str, Any]:
    (bounds,) = authority.bounds
    return {
        "generation": authority.generation,
        "names": sorted(bounds.names or ()),
        "networks": sorted(map(str, bounds.networks or ())),
        "excluded_networks": sorted(map(str, bounds.excluded_networks)),
        "not_after": authority.not_after,
        "fingerprint": authority.fingerprint,
        "certificate": authority.certificate,
        "key": authority.key,
    }


def _from_dict(raw: Mapping[str, Any]) -> LocalAuthority:
    networks = frozenset(map(ip_network, raw["networks"]))
    bounds = Bounds(
        names=frozenset(map(str, raw["names"])),
        networks=networks or None,
        excluded_networks=frozenset(map(ip_network, raw["excluded_networks"])),
    )
    return LocalAuthority(
        generation=int(raw["generation"]),
        bounds=(bounds,),
        not_after=float(raw["not_after"]),
        fingerprint=str(raw["fingerprint"]),
        certificate=str(raw["certificate"]),
        key=str(raw["key"]),
        trusted=str(raw["certificate"]),
    )


@dataclass(frozen=True, slots=True)
class CaRules:
    """Where the local CA is stored and published, and which hosts it must cover.

    `folder` is None if neither config nor environment names one: then Sidekey creates no CA. If `configured`, the
    operator relies on the CA, so Sidekey warns if it cannot create it. `extra_roots` are certificates in PEM that
    callers trust in addition. If `uses_operator_ca`, the config names a CA of the operator, which is `operator_ca`, or
    None while it is unusable.
    """

    folder: Path | None = None
    trust_folder: Path | None = None
    scope: Scope = field(default_factory=Scope)
    hosts: tuple[str, ...] = ()
    extra_roots: str = field(default="", repr=False)
    configured: bool = False
    uses_operator_ca: bool = False
    operator_ca: LocalAuthority | None = None
