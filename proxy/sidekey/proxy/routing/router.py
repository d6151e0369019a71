"""Which integration a request is for: compiled at their first use, with what was read of recent targets and hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from sidekey.credentials.base import GrantSource
from sidekey.credentials.certificates.identity import IdentitySource
from sidekey.errors import Problem, ProblemError
from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.policy.callers import Caller
from sidekey.policy.decide import STORE_UNREAD, PassthroughPolicy, may_not_tunnel
from sidekey.policy.match import Coverage, Matching
from sidekey.policy.messages import RequestHead
from sidekey.policy.naming import MAX_HOST_LENGTH, PRESET, REVERSE, is_own_host, preset_id
from sidekey.policy.tunnel import TunnelEntry
from sidekey.policy.urls import InvalidTarget, parse_target
from sidekey.presets.preset import Preset
from sidekey.proxy.limits import InFlightCounters
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.upstream.pool import may_use
from sidekey.proxy.upstream.pools import Pools
from sidekey.snapshot.snapshot import Integration, Passthrough, Snapshot

HOSTS_LIMIT: Final = 1024
TARGETS_LIMIT: Final = 1024
MAX_TARGET_LENGTH: Final = 256
RELEASE_BATCH: Final = 256

T = TypeVar("T")

RELOADED: Final = Problem(
    "credential_unavailable",
    "the config was reloaded before all of the integration was read: send the request again",
    error="proxy_configuration_error",
)
"""What becomes of those who wait for an integration that a reload has replaced."""

_INVALID: Final = Problem(
    "credential_unavailable",
    "the preset does not belong to its integration any more: an operator must look at it",
    error="proxy_configuration_error",
)
_UNREADABLE: Final = Problem("credential_unavailable", "a value cannot be read", error="proxy_configuration_error")


class Router:
    """The integrations of the snapshot in use, as the data plane finds them.

    `source_of` makes the grant source of an integration, `identity_of` finds where its client certificate is, if it has
    one; each once, at the first request.
    """

    __slots__ = (
        "_compiled",
        "_hosts",
        "_identity_of",
        "_instance",
        "_last_host",
        "_metrics",
        "_own_names",
        "_passthrough",
        "_pools",
        "_shares",
        "_snapshot",
        "_source_of",
        "_stored_at",
        "_targets",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        instance: bytes,
        pools: Pools,
        shares: InFlightCounters,
        metrics: Metrics,
        *,
        source_of: Callable[[Integration], GrantSource],
        identity_of: Callable[[Integration], IdentitySource | None],
    ) -> None:
        self._instance = instance
        self._pools = pools
        self._shares = shares
        self._metrics = metrics
        self._source_of = source_of
        self._identity_of = identity_of
        self._compiled: dict[bytes, CompiledIntegration] = {}
        self._hosts: dict[bytes | None, bool] = {}
        # Of those that are the listener's own; a request without one is for it, whatever the config says.
        self._last_host: bytes | None = None
        self._targets: dict[bytes, Destination] = {}
        self._snapshot = snapshot
        self._own_names = frozenset(snapshot.listen.names)
        self._stored_at = frozenset(snapshot.ca.hosts)
        self._passthrough: PassthroughPolicy[CompiledIntegration] | None = None
        self._passthrough = self._passthrough_by(snapshot.passing)

    # What a request asks for.

    @property
    def instance(self) -> bytes:
        """The word in this process's Via."""
        return self._instance

    @property
    def passthrough(self) -> PassthroughPolicy[CompiledIntegration] | None:
        """How targets of the forward proxy that no integration covers go on."""
        return self._passthrough

    @property
    def matching(self) -> Matching | None:
        """Which integrations a target belongs to where the request names none."""
        return self._snapshot.matching

    @property
    def stored_at(self) -> frozenset[str]:
        """The host names at and under which stored integrations may be used in tunnels, and without being named."""
        return self._stored_at

    def find_quickly(
        self, head: RequestHead, integration: bytes, caller: Caller | None, entry: TunnelEntry | None
    ) -> Destination | None:
        """Find where a plain request goes, or return None if `policy.decide` must read it. Never denies.

        The request has no marks, and names this `integration` (empty: none). `caller` is None only if there are no
        callers.
        """
        if entry is None and head.target.startswith(b"/"):
            destination = None if integration else self._find_reverse(head.host, head.target)
        else:
            destination = self._find_forward(head, integration, entry)
        if destination is None or head.method not in destination.methods:
            return None
        return destination if caller is None or destination.permits(caller) else None

    def _find_reverse(self, host: bytes | None, target: bytes) -> Destination | None:
        """Find the destination of a target of the reverse proxy, or of a preset."""
        if not (host == self._last_host or self._is_known_host(host)):
            return None
        known = self._targets.get(target)
        if known is None:
            known = self._read_preset(target) if target.startswith(PRESET) else self._read(target)
            if known is not None:
                self._remember(target, known)
        return known

    def _find_forward(self, head: RequestHead, name: bytes, entry: TunnelEntry | None) -> Destination | None:
        """Find the destination of an absolute URL, or of the one that a path in a tunnel stands for."""
        url = head.target
        if entry is not None:
            if head.host not in entry.hosts or not url.startswith(b"/"):
                return None
            url = entry.base + url
        # No target contains a space, so no request finds what another kind has read.
        key = b"%b %b" % (name, url)
        known = self._targets.get(key)
        if known is None:
            integration = self._compiled.get(name) if name else self._match(url)
            if integration is None or integration.rules.unresolved:
                return None
            target = integration.match_fast(url, forward=True)
            if target is None:
                return None
            known = integration.destination(target)
            self._remember(key, known)
        if entry is not None and may_not_tunnel(known.integration, entry.origin.host, self) is not None:
            return None
        return known

    def _match(self, url: bytes) -> CompiledIntegration | None:
        """Find the first integration that names the host of a URL: `decide` tries it first, if the caller may use it.

        None leaves the choice to `decide`, also for a stored integration, which counts only for callers that list it,
        and if targets may pass without a credential.
        """
        matching = self._snapshot.matching
        if matching is None or self._passthrough is not None:
            return None
        try:
            names = matching.at(parse_target(url.decode("latin-1")).origin.host)
        except InvalidTarget:
            return None
        integration = self._compiled.get(names[0].encode()) if names else None
        return None if integration is None or integration.rules.stored else integration

    def _is_known_host(self, host: bytes | None) -> bool:
        """Whether a Host field was found to be the proxy listener's own: the next request mostly has the same."""
        if not self._hosts.get(host):
            return False
        self._last_host = host
        return True

    def _read(self, target: bytes) -> Destination | None:
        """The quick reading of a target at the reverse proxy."""
        end = target.find(b"/", 3)
        if end < 0 or not target.startswith(REVERSE):
            return None
        integration = self._compiled.get(target[3:end])
        return None if integration is None else integration.quick(target[end:])

    def _read_preset(self, target: bytes) -> Destination | None:
        """Read the destination of a preset whose URL has no placeholder."""
        preset = self.find_preset(preset_id(target))
        if not isinstance(preset, Preset) or preset.url is None:
            return None
        integration = self._compiled.get(preset.integration.encode())
        if integration is None or integration.rules.unresolved or preset.method not in integration.rules.methods:
            return None
        found = integration.match_fast(preset.url, forward=True)
        return None if found is None else integration.destination(found, preset)

    def find(self, name: bytes) -> CompiledIntegration | None:
        """The integration of this ID, compiled at its first use; None where there is none."""
        compiled = self._compiled.get(name)
        if compiled is None:
            integration = self._snapshot.integrations.get(name.decode("latin-1"))
            if integration is not None:
                compiled = self._compile(integration, self._metrics.stats(integration.id))
                self._compiled[name] = compiled
        return compiled

    def configured(self, name: str) -> Integration | None:
        """The integration of this ID as it is configured, for whoever only tells of it."""
        return self._snapshot.integrations.get(name)

    def find_preset(self, name: bytes) -> Preset | Problem | None:
        """The preset of this ID, or why it cannot be used now."""
        found = self._snapshot.presets.get(name.decode("latin-1"))
        if found is None:
            return None
        if found.invalid:
            is_missing = found.rules.integration not in self._snapshot.integrations
            return STORE_UNREAD if self._snapshot.awaits_store and is_missing else _INVALID
        return found.rules

    def is_own_host(self, host: bytes | None) -> bool:
        """Whether a Host field is the proxy listener's own; an HTTP/1.0 request may leave it out."""
        known = self._hosts.get(host)
        if known is None:
            if len(self._hosts) >= HOSTS_LIMIT:
                self._hosts.clear()
            known = host is None or is_own_host(host.strip(b" \t"), self._own_names)
            if host is None or len(host) <= MAX_HOST_LENGTH:
                self._hosts[host] = known
        return known

    async def resolve(self, compiled: CompiledIntegration) -> CompiledIntegration:
        """Return the integration that replaces an unresolved one, once its secrets can be read. Raises ProblemError.

        It is built in a thread, once for all requests that wait.
        """
        await compiled.integration.secrets.obtain()
        if compiled.resolved is None:
            await compiled.resolution.join(partial(self._rebuild, compiled))
        latest = compiled.latest
        if latest is compiled:
            raise ProblemError(RELOADED)
        if latest.rules.unresolved:
            raise ProblemError(_UNREADABLE)
        return latest

    async def _rebuild(self, compiled: CompiledIntegration) -> None:
        rebuild, name = compiled.integration.rebuild, compiled.name.encode()
        if rebuild is None:
            return
        integration = await asyncio.to_thread(rebuild)
        if self._compiled.get(name) is compiled:
            successor = self._compiled[name] = self._compile(integration, compiled.stats)
            compiled.resolve(successor)
            self._cover(integration)

    def _compile(self, integration: Integration, stats: IntegrationStats) -> CompiledIntegration:
        return CompiledIntegration(
            integration,
            stats,
            self._source_of(integration),
            self._identity_of(integration),
            pools=self._pools,
            shares=self._shares,
            changed=self._forget_targets,
        )

    def _remember(self, target: bytes, known: Destination) -> None:
        """Keep the quick reading of a target: most services send to few. What is long or many is read again."""
        if len(target) <= MAX_TARGET_LENGTH:
            if len(self._targets) >= TARGETS_LIMIT:
                self._targets.clear()
            self._targets[target] = known

    def _forget_targets(self, compiled: CompiledIntegration) -> None:
        """Drop what is remembered of an integration's targets: they go elsewhere now."""
        self._targets = {target: known for target, known in self._targets.items() if known.integration is not compiled}

    # Targets that no integration covers.

    def _passthrough_by(self, rules: Passthrough | None) -> PassthroughPolicy[CompiledIntegration] | None:
        """How those go on by the rules of a snapshot.

        What stands for their integration outlives a snapshot where the next one trusts the same CAs, and its
        connections with it.
        """
        former = self._passthrough
        if rules is None:
            return None
        if former is not None and former.candidate.integration.trust == rules.nobody.trust:
            candidate = former.candidate
        else:
            candidate = self._compile(rules.nobody, self._metrics.passed)
        return PassthroughPolicy(
            candidate, rules.coverage, rules.unresolved, rules.ports, awaits_store=rules.awaits_store
        )

    def _cover_resolved(self) -> None:
        """Take into account what came of integrations that were unresolved when the config was loaded."""
        unresolved = frozenset() if self._passthrough is None else self._passthrough.unresolved
        compiled = [self._compiled.get(name.encode()) for name in unresolved]
        self._cover(*(each.integration for each in compiled if each is not None))

    def _cover(self, *integrations: Integration) -> None:
        """Hear what came of integrations that were unresolved."""
        known = [each for each in integrations if each.rebuild is None]
        passthrough = self._passthrough
        if known and passthrough is not None:
            coverage = passthrough.coverage | Coverage.of(each.policy for each in known)
            unresolved = passthrough.unresolved - {each.id for each in known}
            self._passthrough = PassthroughPolicy(
                passthrough.candidate, coverage, unresolved, passthrough.ports, awaits_store=passthrough.awaits_store
            )

    # Another config.

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Make ready to find the integrations of another snapshot; the result does so from then on.

        Where an integration is not the very same object as before it is compiled again. A request in flight holds what
        it began with, and with it policy, credential and connections: it ends as it began.
        """
        passthrough = self._passthrough_by(snapshot.passing)
        own_names = frozenset(snapshot.listen.names)
        stored_at = frozenset(snapshot.ca.hosts)

        def commit() -> None:
            former, self._snapshot = self._snapshot, snapshot
            left = set() if self._passthrough is None else {self._passthrough.candidate}
            self._passthrough, self._own_names, self._stored_at = passthrough, own_names, stored_at
            self._hosts.clear()
            self._last_host = None
            self._leave(former, left)

        return commit

    def _leave(self, former: Snapshot, left: set[CompiledIntegration]) -> None:
        """Let go of what only the former snapshot used: connections at once, `left` and what else was compiled soon."""
        snapshot = self._snapshot
        old, new = former.integrations, snapshot.integrations
        gone = {name: each for name, each in self._compiled.items() if new.get(each.name) is not old.get(each.name)}
        for name in gone:
            del self._compiled[name]
        left.update(gone.values())
        self._cover_resolved()
        left.difference_update(self._in_use())
        self._targets = {
            target: found
            for target, found in self._targets.items()
            if found.integration not in left and self._is_current(target, found.preset)
        }
        if snapshot.network != former.network:
            self._reconnect()
        else:
            self._drop_unused(left)
        _release_gradually([*left])

    def _is_current(self, target: bytes, preset: Preset | None) -> bool:
        """Return True if a target is still its preset's, or names its integration: by host it may be another's now."""
        return not target.startswith(b" ") and (preset is None or self.find_preset(preset_id(target)) is preset)

    def _in_use(self) -> list[CompiledIntegration]:
        """Those of the snapshot."""
        compiled = [*self._compiled.values()]
        return compiled if self._passthrough is None else [*compiled, self._passthrough.candidate]

    def _reconnect(self) -> None:
        """Let no request to come use a connection of now: its address may not be dialled any more."""
        self._pools.drop(pool for pool in self._pools.known() if not pool.is_empty)
        for compiled in self._in_use():
            compiled.reconnect()

    def _drop_unused(self, gone: set[CompiledIntegration]) -> None:
        """Close what only integrations that are gone, or are others now, have used.

        A pool that holds nothing may stay: it is pruned once there are many.
        """
        integrations = self._snapshot.integrations
        unused = {
            pool
            for compiled in gone
            for pool in compiled.pools()
            if not (pool.is_bare or may_use(integrations.get(compiled.name), pool.key))
        }
        if unused:
            for compiled in self._in_use():
                unused -= compiled.pools()
        self._pools.drop(unused)


def _release_gradually(objects: list[T]) -> None:
    """Let go of objects a few at a time: ten thousand in one go would hold every request up."""
    del objects[-RELEASE_BATCH:]
    if objects:
        asyncio.get_running_loop().call_soon(_release_gradually, objects)
