"""What differs between two snapshots, by names: for whoever asks later what was changed, and who may use what since.

Nothing of a secret is told but the place where it is written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, TypeVar

from sidekey.core.paths import under
from sidekey.core.policy import Domain, Policy, Prefix
from sidekey.runtime.admin_rules import AdminRules
from sidekey.runtime.rules import Limits, Timeouts
from sidekey.runtime.snapshot import Caller, Integration, Log, Preset, Snapshot
from sidekey.runtime.store_rules import StoreRules

T = TypeVar("T")

MOST: Final = 20
"""Entries of a list that one line tells; of names that are left out it tells the number."""

LINES: Final = 50
"""Lines at most: what is granted or widened goes on in further ones, so that no other change can hide it."""

LONGEST: Final = 200
"""Characters of a prefix or domain that are told."""

PREFIXES: Final = "endpoint_prefix"
"""The path of endpoint prefixes among an integration's secrets, where one was read from a file or a variable."""

EVERYONE: Final = "*"
"""Stands for all callers where they are not asked for, and for all that there is."""


class Names(NamedTuple):
    """Names of what was added, removed and changed, each in order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


NONE: Final = Names()


class Granted(NamedTuple):
    """What a caller may use since, and could not before; `kind` is integration or preset."""

    caller: str
    kind: str
    id: str


class Widened(NamedTuple):
    """A key by which an integration allows more than it did, with its values of before and since."""

    integration: str
    key: str
    before: Iterable[object]
    since: Iterable[object]


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs. `secrets` and `settings` are paths of the config.

    `revision` is that of the store where it differs.
    """

    integrations: Names = NONE
    presets: Names = NONE
    callers: Names = NONE
    secrets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    granted: tuple[Granted, ...] = ()
    widened: tuple[Widened, ...] = ()
    revision: int | None = None

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return any(map(any, (self.integrations, self.presets, self.callers))) or bool(self.secrets or self.settings)

    def told(self) -> Iterator[dict[str, Any]]:
        """The keys of each log line, without empty ones, and bounded; `omitted` says how much is left out of all."""
        yield self._first()
        for start in range(MOST, MOST * LINES, MOST):
            granted = list(map(_granted_as_told, self.granted[start : start + MOST]))
            widened = list(map(_widened_as_told, self.widened[start : start + MOST]))
            line = {key: told for key, told in (("granted", granted), ("widened", widened)) if told}
            if not line:
                return
            yield line

    def _first(self) -> dict[str, Any]:
        omitted: dict[str, int] = {}

        def bounded(key: str, entries: Sequence[T], most: int = MOST) -> Sequence[T]:
            if len(entries) > most:
                omitted[key] = len(entries) - most
            return entries[:MOST]

        said: dict[str, Any] = {} if self.revision is None else {"revision": self.revision}
        for key in ("integrations", "presets", "callers"):
            names: Names = getattr(self, key)
            found = {word: list(bounded(f"{key}.{word}", each)) for word, each in names._asdict().items() if each}
            if found:
                said[key] = found
        for key in ("secrets", "settings"):
            if getattr(self, key):
                said[key] = list(bounded(key, getattr(self, key)))
        if self.granted:
            said["granted"] = list(map(_granted_as_told, bounded("granted", self.granted, MOST * LINES)))
        if self.widened:
            said["widened"] = list(map(_widened_as_told, bounded("widened", self.widened, MOST * LINES)))
        return said if not omitted else {**said, "omitted": omitted}


def _granted_as_told(granted: Granted) -> dict[str, Any]:
    return {"caller": granted.caller, granted.kind: granted.id}


def _widened_as_told(widened: Widened) -> dict[str, Any]:
    # Only now, and of few integrations: there may be thousands, with long prefixes.
    before, since = ({str(value)[:LONGEST] for value in each} for each in (widened.before, widened.since))
    return {
        "integration": widened.integration,
        "key": widened.key,
        "from": _differing_first(before, since),
        "to": _differing_first(since, before),
    }


def _differing_first(values: set[str], others: set[str]) -> list[str]:
    """As many as are told; where not all are, those first that the others lack."""
    if len(values) <= MOST:
        return sorted(values)
    return sorted(values, key=lambda value: (value in others, value))[:MOST]


def compare(former: Snapshot, now: Snapshot) -> Changes:
    """What differs from one snapshot to the next. Looks at each integration that is another object: not for a loop."""
    secrets: list[str] = []
    widened: list[Widened] = []
    integrations = _names(former.integrations, now.integrations, differ=_differ)
    for name in integrations.changed:
        one, other = former.integrations[name], now.integrations[name]
        secrets += (f"integrations.{name}.{path}" for path in _different(dict(one.digests), dict(other.digests)))
        widened += _widened(one, other)
    callers = _callers(former), _callers(now)
    shared = (name for name in callers[1] if name in callers[0])
    secrets += (f"callers.{name}.token" for name in shared if callers[0][name].tokens != callers[1][name].tokens)
    secrets += _admin_secrets(former.admin, now.admin)
    if _keys(former.store) != _keys(now.store):
        secrets.append("store.keys")
    if _url(former.store) != _url(now.store):
        secrets.append("store.url")
    revisions = (0 if each.stored is None else each.stored.revision for each in (former, now))
    before, since = revisions
    return Changes(
        integrations=integrations,
        presets=_names(former.presets, now.presets, differ=_differ_as_presets),
        callers=_names(*callers),
        secrets=tuple(sorted(secrets)),
        settings=tuple(_settings(former, now)),
        granted=tuple(_granted(former, now)),
        widened=tuple(widened),
        revision=since if since != before else None,
    )


def _names(former: Mapping[str, T], now: Mapping[str, T], *, differ: Callable[[T, T], bool] = operator.ne) -> Names:
    """What was added to a mapping, removed from it, or is another value."""
    return Names(
        tuple(sorted(name for name in now if name not in former)),
        tuple(sorted(name for name in former if name not in now)),
        tuple(
            sorted(
                name
                for name, other in now.items()
                if (one := former.get(name)) is not None and one is not other and differ(one, other)
            )
        ),
    )


def _differ(one: Integration, other: Integration) -> bool:
    """Whether two integrations were built of different things: what is built may be another object all the same."""
    return any(
        getattr(one, key) != getattr(other, key)
        for key in ("written", "digests", "policy", "trust", "filled", "kind", "stored")
    )


def _differ_as_presets(one: Preset, other: Preset) -> bool:
    """Likewise of presets."""
    return (one.document, one.invalid, one.stored) != (other.document, other.invalid, other.stored)


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values are not the same, or that only one of them has."""
    return (key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key))


# Who may use what.


class _Caller(NamedTuple):
    """A caller by name, with all tokens of that name."""

    tokens: frozenset[bytes]
    integrations: frozenset[str] | None
    presets: frozenset[str] | None


def _callers(snapshot: Snapshot) -> dict[str, _Caller]:
    found: dict[str, _Caller] = {}
    for token, each in (snapshot.callers or {}).items():
        known = found.get(each.name, _Caller(frozenset(), frozenset(), frozenset()))
        found[each.name] = _Caller(
            known.tokens | {token}, _union(known.integrations, each.integrations), _union(known.presets, each.presets)
        )
    return found


def _union(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other


def _granted(former: Snapshot, now: Snapshot) -> Iterator[Granted]:
    """What callers may use since: of what there is, and also where it is new."""
    if now.callers is None:
        if former.callers is not None:
            yield from (Granted(EVERYONE, kind, EVERYONE) for kind in ("integration", "preset"))
        return
    # Before, anyone could use everything.
    everything = None if former.callers is not None else Caller(EVERYONE, None, None)
    known = _callers(former)
    there = {"integration": now.integrations.keys(), "preset": now.presets.keys()}
    new = {
        "integration": sorted(there["integration"] - former.integrations.keys()),
        "preset": sorted(there["preset"] - former.presets.keys()),
    }
    everything_new: list[Granted] = []
    for name, caller in sorted(_callers(now).items()):
        before = everything or known.get(name) or Caller(name, frozenset(), frozenset())
        for kind in ("integration", "preset"):
            granted, granted_before = getattr(caller, f"{kind}s"), getattr(before, f"{kind}s")
            if granted is not None:
                known_before = granted if granted_before is None else granted & granted_before
                usable = (granted & there[kind]) - (known_before.difference(new[kind]))
                yield from (Granted(name, kind, each) for each in sorted(usable))
            elif granted_before is not None:
                yield Granted(name, kind, EVERYONE)
            else:
                everything_new += (Granted(name, kind, each) for each in new[kind])
    # Last, as they follow from what is added: there may be thousands.
    yield from everything_new


# Where a credential may go.


def _widened(one: Integration, other: Integration) -> Iterator[Widened]:
    """The keys by which an integration allows more than before; not of one whose policy is not known yet.

    One whose policy was not known could reach nothing.
    """
    if other.rebuild is not None:
        return
    before, since = one.policy, other.policy
    if any(_is_new(before, target) for target in _reach(since)):
        if set(before.prefixes) != set(since.prefixes):
            yield Widened(other.id, "endpoint_prefix", _prefixes_as_told(one), _prefixes_as_told(other))
        if set(before.domains) != set(since.domains):
            yield Widened(other.id, "allowed_domains", before.domains, since.domains)
    if before.methods is not None and (since.methods is None or since.methods - before.methods):
        yield Widened(other.id, "methods", before.methods, since.methods or (EVERYONE,))
    # Those of a stored integration are not its own.
    private = [each.allow_private if isinstance(each.allow_private, tuple) else () for each in (one, other)]
    if set(private[1]) - set(private[0]):
        yield Widened(other.id, "allow_private", private[0], private[1])


def _prefixes_as_told(integration: Integration) -> Iterable[object]:
    """The prefixes; where one was read from a file or a variable no path is told, since it may be a secret."""
    prefixes = integration.policy.prefixes
    if any(path == PREFIXES for path, _ in integration.digests):
        return [f"{prefix.origin}/..." for prefix in prefixes]
    return prefixes


def _reach(policy: Policy) -> Iterator[Prefix | Domain]:
    """The largest of what a policy allows: prefixes where there are some, which must be under a domain as well."""
    if not policy.prefixes:
        yield from policy.domains
    for prefix in policy.prefixes:
        if not policy.domains or any(domain.covers(prefix.origin) for domain in policy.domains):
            yield prefix


def _is_new(policy: Policy, target: Prefix | Domain) -> bool:
    """Whether some of this is not allowed by a policy."""
    if not policy.prefixes and not policy.domains:
        return True
    if policy.domains and not any(_covers(domain, target) for domain in policy.domains):
        return True
    if not policy.prefixes:
        return False
    return isinstance(target, Domain) or not any(
        prefix.origin == target.origin and under(target.path, prefix.path) for prefix in policy.prefixes
    )


def _covers(domain: Domain, target: Prefix | Domain) -> bool:
    """Whether all origins of a target are covered by a domain."""
    if not isinstance(target, Domain) or not target.wildcard:
        return domain.covers(target.origin)
    return domain.wildcard and (domain == target or domain.covers(target.origin))


# Everything else.

_SECTIONS: Final = {
    "listen": ("proxy", "admin", "metrics", "names"),
    "network": ("hosts", "allow_private", "search", "source_address"),
    "timeouts": tuple(each.name for each in fields(Timeouts)),
    "limits": tuple(each.name for each in fields(Limits)),
    "log": tuple(each.name for each in fields(Log)),
    "ca": ("folder", "trust_folder", "hosts", "extra_roots", "own"),
    "store": ("audit", "allow_private"),
    "admin": ("names", "behind_tls"),
}
"""The fields that are keys of the config, by section; `ca.own` is `ca.certificate`."""


def _settings(former: Snapshot, now: Snapshot) -> Iterator[str]:
    """The keys beside integrations, presets and callers."""
    for section, keys in _SECTIONS.items():
        one, other = getattr(former, section), getattr(now, section)
        if one is not other:
            # A store is not made or removed while it is in use.
            differing = (key for key in keys if getattr(one, key, None) != getattr(other, key, None))
            yield from (f"{section}.{'certificate' if key == 'own' else key}" for key in differing)
    if former.trust != now.trust:
        yield "network.trusted_ca"
    if former.via != now.via:
        yield "via"
    yield from (f"forward.{key}" for key in _different(_forward(former), _forward(now)))
    roles = [{name: token.role for name, token in each.admin.tokens.items()} for each in (former, now)]
    yield from (f"admin.tokens.{name}" for name in sorted(_different(roles[0], roles[1])))


def _forward(snapshot: Snapshot) -> dict[str, Any]:
    """The keys of `forward`, as far as a snapshot tells them."""
    found: dict[str, Any] = {"unmatched": snapshot.passing is not None, "match_by_host": snapshot.matching is not None}
    return found if snapshot.passing is None else {**found, "pass_ports": snapshot.passing.ports}


def _admin_secrets(one: AdminRules, other: AdminRules) -> Iterator[str]:
    for name, token in other.tokens.items():
        known = one.tokens.get(name)
        if known is not None and known.digest != token.digest:
            yield f"admin.tokens.{name}.token"
    if one.certificate != other.certificate:
        yield "admin.tls"


def _keys(rules: StoreRules | None) -> tuple[tuple[str, bytes], ...]:
    return () if rules is None else rules.keys


def _url(rules: StoreRules | None) -> str | None:
    return None if rules is None else rules.url
