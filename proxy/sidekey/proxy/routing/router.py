"""Find the integration and destination of a request. Compile integrations at their first use, and cache targets."""

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
from sidekey.policy.coverage import Coverage
from sidekey.policy.decision import STORE_UNREAD
from sidekey.policy.identifiers import PRESET, REVERSE, preset_id
from sidekey.policy.listener import MAX_HOST_LENGTH, is_listener_host
from sidekey.policy.match import Matching
from sidekey.policy.messages import RequestHead
from sidekey.policy.passthrough import PassthroughPolicy
from sidekey.policy.routes import check_tunnel_host
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import InvalidTarget, parse_target
from sidekey.presets.preset import PresetRules
from sidekey.proxy.limits import InFlightCounters
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.upstream.pool import may_use
from sidekey.proxy.upstream.pools import Pools
from sidekey.snapshot.snapshot import Integration, Passthrough, Snapshot

HOSTS_LIMIT: Final = 1024
TARGETS_LIMIT: Final = 1024
MAX_TARGET_LENGTH: Final = 256
"""Longer targets are not cached."""
RELEASE_BATCH: Final = 256
"""Objects that are released in one turn of the loop."""

T = TypeVar("T")

RELOADED: Final = Problem(
    "credential_unavailable",
    "the config was reloaded before all of the integration was read: send the request again",
    error="proxy_configuration_error",
)
"""For requests that wait for an integration that a reload has replaced."""

_INVALID: Final = Problem(
    "credential_unavailable",
    "the preset does not belong to its integration any more: an operator must look at it",
    error="proxy_configuration_error",
)
_UNREADABLE: Final = Problem("credential_unavailable", "a value cannot be read", error="proxy_configuration_error")


class Router:
    """Finds integrations, presets and destinations in the current snapshot.

    `_compiled` holds the integrations in use, by ID. `_targets` caches the destinations of recent targets, and `_hosts`
    the results of `is_listener_host`. `source_of` creates the grant source of an integration, and `identity_of` finds
    the source of its client certificate, if it has one, when the integration is compiled.
    """

    __slots__ = (
        "_ca_hosts",
        "_compiled",
        "_hosts",
        "_identity_of",
        "_in_flight_counters",
        "_instance",
        "_last_host",
        "_metrics",
        "_own_names",
        "_passthrough",
        "_pools",
        "_rebuilding",
        "_snapshot",
        "_source_of",
        "_targets",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        instance: bytes,
        pools: Pools,
        in_flight_counters: InFlightCounters,
        metrics: Metrics,
        *,
        source_of: Callable[[Integration], GrantSource],
        identity_of: Callable[[Integration], IdentitySource | None],
    ) -> None:
        self._instance = instance
        self._pools = pools
        self._in_flight_counters = in_flight_counters
        self._metrics = metrics
        self._source_of = source_of
        self._identity_of = identity_of
        self._compiled: dict[bytes, CompiledIntegration] = {}
        self._rebuilding: set[CompiledIntegration] = set()
        self._hosts: dict[bytes | None, bool] = {}
        # The last Host that was the listener's own. None at first: a request without Host is for the listener.
        self._last_host: bytes | None = None
        self._targets: dict[bytes, Destination] = {}
        self._snapshot = snapshot
        self._own_names = frozenset(snapshot.listen.names)
        self._ca_hosts = frozenset(snapshot.ca.hosts)
        self._passthrough: PassthroughPolicy[CompiledIntegration] | None = None
        self._passthrough = self._build_passthrough(snapshot.passthrough)

    # Finding the integration and destination of a request.

    @property
    def instance(self) -> bytes:
        """The random word in this process's Via."""
        return self._instance

    @property
    def passthrough(self) -> PassthroughPolicy[CompiledIntegration] | None:
        """The policy for forward-proxy targets that no integration covers, or None to refuse them."""
        return self._passthrough

    @property
    def matching(self) -> Matching | None:
        """The integrations by host, for requests that name no integration; None if that is disabled."""
        return self._snapshot.matching

    @property
    def ca_hosts(self) -> frozenset[str]:
        """Host names at and under which stored integrations serve tunnels and requests that name no integration."""
        return self._ca_hosts

    def find_fast(
        self, head: RequestHead, integration: bytes, caller: Caller | None, tunnel: TunnelContext | None
    ) -> Destination | None:
        """Return the destination of a plain request, or None to leave it to `policy.decide`. Never denies.

        A plain request has no `control_headers`. `integration` is the ID that it names in a header, or empty. `caller`
        is None only if the config has no callers.
        """
        if tunnel is None and head.target.startswith(b"/"):
            destination = None if integration else self._find_reverse(head.host, head.target)
        else:
            destination = self._find_forward(head, integration, tunnel)
        if destination is None or head.method not in destination.methods:
            return None
        return destination if caller is None or destination.permits(caller) else None

    def _find_reverse(self, host: bytes | None, target: bytes) -> Destination | None:
        """Return the destination of a path at the reverse proxy: of an integration or a preset."""
        if not (host == self._last_host or self._is_known_host(host)):
            return None
        destination = self._targets.get(target)
        if destination is None:
            destination = self._find_by_preset(target) if target.startswith(PRESET) else self._find_by_id(target)
            if destination is not None:
                self._remember(target, destination)
        return destination

    def _find_forward(self, head: RequestHead, name: bytes, tunnel: TunnelContext | None) -> Destination | None:
        """Return the destination of an absolute URL, or of a path in a tunnel."""
        url = head.target
        if tunnel is not None:
            if head.host not in tunnel.hosts or not url.startswith(b"/"):
                return None
            url = tunnel.base + url
        # No target contains a space, so these keys never equal those of `_find_reverse`.
        key = b"%b %b" % (name, url)
        destination = self._targets.get(key)
        if destination is None:
            integration = self._compiled.get(name) if name else self._match(url)
            if integration is None or integration.rules.unresolved:
                return None
            target = integration.match_fast(url, forward=True)
            if target is None:
                return None
            destination = integration.destination(target)
            self._remember(key, destination)
        if tunnel is not None and check_tunnel_host(destination.integration, tunnel.origin.host, self) is not None:
            return None
        return destination

    def _match(self, url: bytes) -> CompiledIntegration | None:
        """Return the first integration for the host of a URL, which `decide` would try first too.

        None leaves the choice to `decide`. That includes a stored integration, which only matches for callers that list
        it, and all URLs if targets may pass without a credential.
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
        """Return True if `is_listener_host` has accepted this Host before, and remember it as the last one."""
        if not self._hosts.get(host):
            return False
        self._last_host = host
        return True

    def _find_by_id(self, target: bytes) -> Destination | None:
        """Return the destination of a target with the ID of an integration, such as /i/ID/path."""
        end = target.find(b"/", 3)
        if end < 0 or not target.startswith(REVERSE):
            return None
        integration = self._compiled.get(target[3:end])
        return None if integration is None else integration.fast_destination(target[end:])

    def _find_by_preset(self, target: bytes) -> Destination | None:
        """Return the destination of a preset whose URL has no placeholder."""
        preset = self.find_preset(preset_id(target))
        if not isinstance(preset, PresetRules) or preset.fixed_url is None:
            return None
        integration = self._compiled.get(preset.integration.encode())
        if integration is None or integration.rules.unresolved or preset.method not in integration.rules.methods:
            return None
        preset_target = integration.match_fast(preset.fixed_url, forward=True)
        return None if preset_target is None else integration.destination(preset_target, preset)

    def find(self, name: bytes) -> CompiledIntegration | None:
        """Return the integration with this ID, compiled at its first use and with the latest base URL, or None."""
        compiled = self._compiled.get(name)
        if compiled is None:
            integration = self._snapshot.integrations.get(name.decode("latin-1"))
            if integration is not None:
                compiled = self._compile(integration, self._metrics.stats(integration.id))
                self._compiled[name] = compiled
        if compiled is not None and compiled.discovers_base_url:
            # A renewed grant may have another base URL than at the last request.
            compiled.apply_base_url(compiled.grant_source.grant)
        return compiled

    def find_configured(self, name: str) -> Integration | None:
        """Return the integration with this ID as it is configured, for logs. Unlike `find`, do not compile it."""
        return self._snapshot.integrations.get(name)

    def find_preset(self, name: bytes) -> PresetRules | Problem | None:
        """Return the preset with this ID, the problem if it cannot be used now, or None if there is none."""
        preset = self._snapshot.presets.get(name.decode("latin-1"))
        if preset is None:
            return None
        if preset.invalid:
            is_missing = preset.rules.integration not in self._snapshot.integrations
            return STORE_UNREAD if self._snapshot.awaits_store and is_missing else _INVALID
        return preset.rules

    def is_listener_host(self, host: bytes | None) -> bool:
        """Return True if a Host field names the proxy listener. An HTTP/1.0 request may omit it."""
        known = self._hosts.get(host)
        if known is None:
            if len(self._hosts) >= HOSTS_LIMIT:
                self._hosts.clear()
            known = host is None or is_listener_host(host.strip(b" \t"), self._own_names)
            if host is None or len(host) <= MAX_HOST_LENGTH:
                self._hosts[host] = known
        return known

    async def resolve(self, compiled: CompiledIntegration) -> CompiledIntegration:
        """Await the missing secrets of an integration, and return the one that replaces it. Raises ProblemError.

        A thread builds the replacement, once for all requests that wait.
        """
        await compiled.integration.secrets.obtain()
        if compiled.resolved is None:
            await compiled.resolution.start_or_wait(partial(self._rebuild, compiled))
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
        self._rebuilding.add(compiled)
        try:
            integration = await asyncio.to_thread(rebuild)
        finally:
            self._rebuilding.discard(compiled)
        if self._compiled.get(name) is compiled:
            successor = self._compiled[name] = self._compile(integration, compiled.stats)
            compiled.replace_with(successor)
            self._add_coverage(integration)

    async def close(self) -> None:
        """Cancel the builds that `resolve` has started."""
        for compiled in [*self._rebuilding]:
            await compiled.resolution.close()

    def _compile(self, integration: Integration, stats: IntegrationStats) -> CompiledIntegration:
        return CompiledIntegration(
            integration,
            stats,
            self._source_of(integration),
            self._identity_of(integration),
            pools=self._pools,
            in_flight_counters=self._in_flight_counters,
            on_rules_changed=self._forget_targets,
        )

    def _remember(self, target: bytes, destination: Destination) -> None:
        """Cache the destination of a target, unless the target is long. A full cache is cleared."""
        if len(target) <= MAX_TARGET_LENGTH:
            if len(self._targets) >= TARGETS_LIMIT:
                self._targets.clear()
            self._targets[target] = destination

    def _forget_targets(self, compiled: CompiledIntegration) -> None:
        """Drop the cached targets of an integration whose rules have changed."""
        self._targets = {
            target: destination
            for target, destination in self._targets.items()
            if destination.integration is not compiled
        }

    # Targets that no integration covers.

    def _build_passthrough(self, rules: Passthrough | None) -> PassthroughPolicy[CompiledIntegration] | None:
        """Build the policy for these rules, or return None without rules.

        The policy keeps the compiled stand-in integration, and so its connections, if its egress is unchanged.
        """
        previous = self._passthrough
        if rules is None:
            return None
        if previous is not None and previous.candidate.integration.egress == rules.integration.egress:
            candidate = previous.candidate
        else:
            candidate = self._compile(rules.integration, self._metrics.passed)
        return PassthroughPolicy(
            candidate, rules.coverage, rules.unresolved, rules.ports, awaits_store=rules.awaits_store
        )

    def _add_resolved_coverage(self) -> None:
        """Add the coverage of integrations that were unresolved at the load of the config and are resolved now."""
        unresolved = frozenset() if self._passthrough is None else self._passthrough.unresolved
        compiled = [self._compiled.get(name.encode()) for name in unresolved]
        self._add_coverage(*(item.integration for item in compiled if item is not None))

    def _add_coverage(self, *integrations: Integration) -> None:
        """Add the coverage of those integrations that are resolved."""
        resolved = [integration for integration in integrations if integration.rebuild is None]
        passthrough = self._passthrough
        if resolved and passthrough is not None:
            coverage = passthrough.coverage | Coverage.of(integration.policy for integration in resolved)
            unresolved = passthrough.unresolved - {integration.id for integration in resolved}
            self._passthrough = PassthroughPolicy(
                passthrough.candidate, coverage, unresolved, passthrough.ports, awaits_store=passthrough.awaits_store
            )

    # Applying another snapshot.

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare another snapshot. The returned function applies it to requests that begin after it.

        An integration is compiled again unless both snapshots hold the same object. A request in flight keeps the
        compiled integration, and so the policy, credential and connections, that it began with.
        """
        passthrough = self._build_passthrough(snapshot.passthrough)
        own_names = frozenset(snapshot.listen.names)
        ca_hosts = frozenset(snapshot.ca.hosts)

        def commit() -> None:
            previous, self._snapshot = self._snapshot, snapshot
            replaced = set() if self._passthrough is None else {self._passthrough.candidate}
            self._passthrough, self._own_names, self._ca_hosts = passthrough, own_names, ca_hosts
            self._hosts.clear()
            self._last_host = None
            self._drop_previous(previous, replaced)

        return commit

    def _drop_previous(self, previous: Snapshot, replaced: set[CompiledIntegration]) -> None:
        """Drop everything that only the previous snapshot used: connections at once, compiled integrations gradually.

        `replaced` are compiled integrations to drop unless this snapshot uses them too.
        """
        snapshot = self._snapshot
        old, new = previous.integrations, snapshot.integrations
        changed = {name: item for name, item in self._compiled.items() if new.get(item.name) is not old.get(item.name)}
        for name in changed:
            del self._compiled[name]
        replaced.update(changed.values())
        self._add_resolved_coverage()
        replaced.difference_update(self._in_use())
        self._targets = {
            target: destination
            for target, destination in self._targets.items()
            if destination.integration not in replaced and self._is_current(target, destination.preset)
        }
        if snapshot.network != previous.network:
            self._reconnect()
        else:
            self._drop_unused(replaced)
        _release_gradually([*replaced])

    def _is_current(self, target: bytes, preset: PresetRules | None) -> bool:
        """Return True if a cached target leads to the same integration or preset as before.

        The target of a request that names no integration begins with a space: its host may match another one now.
        """
        return not target.startswith(b" ") and (preset is None or self.find_preset(preset_id(target)) is preset)

    def _in_use(self) -> list[CompiledIntegration]:
        """Return the compiled integrations of the current snapshot."""
        compiled = [*self._compiled.values()]
        return compiled if self._passthrough is None else [*compiled, self._passthrough.candidate]

    def _reconnect(self) -> None:
        """Drop all connections: the new network rules may forbid their addresses."""
        self._pools.drop(pool for pool in self._pools.known() if not pool.is_empty)
        for compiled in self._in_use():
            compiled.reconnect()

    def _drop_unused(self, replaced: set[CompiledIntegration]) -> None:
        """Drop the pools that only replaced integrations have used.

        A pool that `is_forgettable` may stay: `Pools` prunes it once there are many.
        """
        integrations = self._snapshot.integrations
        unused = {
            pool
            for compiled in replaced
            for pool in compiled.pools()
            if not (pool.is_forgettable or may_use(integrations.get(compiled.name), pool.key))
        }
        if unused:
            for compiled in self._in_use():
                unused -= compiled.pools()
        self._pools.drop(unused)


def _release_gradually(objects: list[T]) -> None:
    """Release objects a few at a time: freeing ten thousand at once would block the loop."""
    del objects[-RELEASE_BATCH:]
    if objects:
        asyncio.get_running_loop().call_soon(_release_gradually, objects)
