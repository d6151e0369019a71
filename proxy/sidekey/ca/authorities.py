"""The local CAs as values: which sign, which are only trusted yet, and how that changes. Pure: no I/O, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sidekey.ca.scope import Bounds, Scope
from sidekey.credentials.secret_holder import SecretHolder

MARK = "Sidekey local CA"
"""The organisation that a CA of ours names in its subject: it is known by that wherever it turns up."""

MAX_AUTHORITIES = 64
"""CAs at the same time: what callers trust must not grow for ever."""


class RotationError(ValueError):
    """The step of a rotation is not possible now; the message says why and the way out."""


@dataclass(frozen=True, slots=True, repr=False)
class LocalAuthority(SecretHolder):
    """A CA with its key, both in PEM. It may sign what all of `bounds` permit, until `not_after`.

    `served` is what a TLS server sends after the leaf (RFC 8446 4.4.2), `trusted` what callers must trust: of a CA that
    is a root nothing and itself. `fingerprint` is the SHA-256 of its certificate, in hex.
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
        return f"Authority({self.fingerprint[:12]}, REDACTED)"

    def permits(self, host: str) -> bool:
        """Whether it may sign for this host."""
        return all(each.permits(host) for each in self.bounds)


Make = Callable[[Scope, int], LocalAuthority]
"""Makes a CA for a scope, of a generation."""


@dataclass(frozen=True, slots=True, repr=False)
class Authorities(SecretHolder):
    """All local CAs, the oldest first. Those of the generation `signing` sign.

    Newer ones are trusted by callers that start from now on, older ones by those that have not restarted yet. A
    generation has several CAs where hosts were added to the config after the first was made.
    """

    signing: int = 1
    every: tuple[LocalAuthority, ...] = ()

    def __repr__(self) -> str:
        return f"Authorities({self.signing}, {self.every!r})"

    def signer(self, host: str, now: float) -> LocalAuthority | None:
        """The CA that signs for this host."""
        return next(
            (
                each
                for each in self.every
                if each.generation == self.signing and now < each.not_after and each.permits(host)
            ),
            None,
        )

    @property
    def signers(self) -> tuple[LocalAuthority, ...]:
        """Those that sign."""
        return tuple(each for each in self.every if each.generation == self.signing)

    @property
    def expires(self) -> float | None:
        """When the first of those that sign expires; None where none does."""
        return min((each.not_after for each in self.signers), default=None)

    def missing(self, scope: Scope, now: float) -> dict[int, Scope]:
        """What of the scope no valid CA may sign for, by generation: of the one that signs, and of the next."""
        valid = [each for each in self.every if now < each.not_after]
        found = {}
        for generation in sorted(
            {self.signing, *(each.generation for each in valid if each.generation > self.signing)}
        ):
            bounds = [bound for each in valid if each.generation == generation for bound in each.bounds]
            outside = scope.outside(bounds)
            if outside or not bounds:
                found[generation] = outside
        return found

    def ensure(self, scope: Scope, now: float, make: Make) -> Authorities:
        """With a CA more for each part that is missing; the very same where nothing is.

        Those that have expired are dropped then. Raises RotationError where there would be too many.
        """
        missing = self.missing(scope, now)
        if not missing:
            return self
        kept = tuple(each for each in self.every if now < each.not_after)
        if len(kept) + len(missing) > MAX_AUTHORITIES:
            raise RotationError(
                f"there are {len(kept)} local CAs, at most {MAX_AUTHORITIES} may be: join them with sidekey ca rotate"
            )
        return replace(self, every=(*kept, *(make(part, generation) for generation, part in missing.items())))

    def add_next(self, scope: Scope, make: Make) -> Authorities:
        """With the CA that will sign next, one for all."""
        newest = max((each.generation for each in self.every), default=self.signing)
        if newest > self.signing:
            way_out = "restart the callers, then run sidekey ca rotate --activate"
            raise RotationError(f"the next CA is there already: {way_out}")
        return replace(self, every=(*self.every, make(scope, newest + 1)))

    def activate(self) -> Authorities:
        """Sign with the next CA from now on."""
        newest = max((each.generation for each in self.every), default=self.signing)
        if newest == self.signing:
            raise RotationError("there is no next CA: run sidekey ca rotate, then restart the callers")
        return replace(self, signing=newest)

    def retire(self) -> Authorities:
        """Drop those that signed before."""
        kept = tuple(each for each in self.every if each.generation >= self.signing)
        if kept == self.every:
            raise RotationError("there is no old CA: the one that signs was never replaced")
        return replace(self, every=kept)

    def to_json(self) -> str:
        """As it is kept, keys included."""
        document = {"signing": self.signing, "authorities": [_written(each) for each in self.every]}
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Authorities:
        """As it was kept. Raises ValueError."""
        try:
            document = json.loads(text)
            return cls(int(document["signing"]), tuple(map(_read, document["authorities"])))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            raise ValueError("is not what Sidekey has written") from None


def _written(authority: LocalAuthority) -> dict[str, Any]:
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


def _read(raw: Mapping[str, Any]) -> LocalAuthority:
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
    own: LocalAuthority | None = None
