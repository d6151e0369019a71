"""Decide whether a request gets a credential or passes without one, and where it goes.

Pure functions of a frozen request head, the callers and the integrations. The data plane and `explain` decide here.
Nothing is allowed by default, and every denial is a value with its reason.

The caller is authenticated before its integration ID is looked up, so that an unknown caller cannot find out which IDs
exist. An unknown ID and the ID of another caller's integration get the same response.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from sidekey.errors import Denial, Problem
from sidekey.policy import naming, targets
from sidekey.policy.callers import Caller, find_caller
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.headers import Role
from sidekey.policy.match import Coverage, Matching, is_under
from sidekey.policy.messages import RequestHead
from sidekey.policy.parameters import UnreadableNames, contains_parameter, overrides_method
from sidekey.policy.paths import UnreadablePath
from sidekey.policy.targets import Policy, Prefix, upgrade
from sidekey.policy.tunnel import TunnelEntry
from sidekey.policy.urls import Authority, InvalidTarget, Origin, Target, parse_authority, parse_target

COMMON_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

DEFAULT_METHODS: Final = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS"
    b" PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK"
    b" UNSUBSCRIBE".split()
)
"""The HTTP methods that llhttp, Sidekey's request parser, accepts, except TRACE and CONNECT."""

_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="sidekey"')
_TOKEN_CHALLENGE = ("WWW-Authenticate", 'Sidekey-Token realm="sidekey"')


@dataclass(frozen=True, slots=True)
class IntegrationRules:
    """Rules that admit or deny the targets of one integration.

    `configured` is the policy of the config. `policy` and `base` are in force: they differ from the config once a grant
    has discovered its base URL. Sidekey adds the `parameters` itself, so the caller may not send them. `unresolved`
    means that a value that decides where the credential may go cannot be read yet. A `stored` integration serves
    tunnels, and requests that name no integration, only at hosts under `ca.hosts`. Presets forward the caller's headers
    in `caller_fields`. Sidekey brings targets into `canonical` form, if there is one, before it checks them.
    """

    name: str
    configured: Policy
    policy: Policy
    base: Prefix | None
    methods: frozenset[bytes] = DEFAULT_METHODS
    parameters: tuple[str, ...] = ()
    unresolved: bool = False
    stored: bool = False
    caller_fields: frozenset[bytes] = frozenset()
    canonical: CanonicalForm | None = None

    @classmethod
    def of(
        cls,
        name: str,
        configured: Policy,
        base: Prefix | None,
        parameters: tuple[str, ...],
        *,
        unresolved: bool,
        stored: bool = False,
        caller_fields: frozenset[bytes] = frozenset(),
        canonical: CanonicalForm | None = None,
    ) -> IntegrationRules:
        """Build the rules of an integration before a grant discovers its base URL."""
        methods = DEFAULT_METHODS
        if configured.methods is not None:
            methods = frozenset(method.encode() for method in configured.methods) & DEFAULT_METHODS
        return cls(
            name, configured, configured, base, methods, parameters, unresolved, stored, caller_fields, canonical
        )

    def with_base(self, base: Prefix) -> IntegrationRules:
        """Return the rules after a grant discovered its base URL. Raises ValueError if the policy denies that URL."""
        return replace(self, policy=self.configured.with_base(base), base=base)

    def resolve_target(self, target: Target) -> Target:
        """Resolve a forward-proxy target: upgrade http to https, and replace the policy's placeholder origin."""
        target = upgrade(self.configured, target)
        if self.policy is self.configured or self.base is None:
            return target
        return self.configured.move(target, self.base.origin)

    def may_reach(self, authority: Authority) -> bool:
        """Return True if the policy may allow an https or http request in a tunnel to this authority."""
        return any(
            self.policy.reaches(self.resolve_target(Target(authority.origin(scheme), "/", None)).origin)
            for scheme in ("https", "http")
        )

    @property
    def allow(self) -> str:
        """Value of the Allow header (RFC 9110 10.2.1)."""
        methods = self.configured.methods
        return COMMON_METHODS if methods is None else ", ".join(sorted(methods - targets.NEVER_FORWARDED))


class Candidate(Protocol):
    """An integration that can serve a request, or its substitute in a `PassthroughPolicy`."""

    @property
    def rules(self) -> IntegrationRules:
        """The rules in force."""
        ...

    def match_fast(self, url: bytes, *, forward: bool) -> Target | None:
        """Return the target if the fast parser can read and allow it, or None to leave it to the exact parser.

        `url` is absolute at the forward proxy. At the reverse proxy it is the part after the ID.
        """
        ...


C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)


class PassthroughPolicy(Generic[C_co]):
    """Policy for forward-proxy targets that no integration covers: they pass without a credential.

    `candidate` is the substitute for an integration. `coverage` holds the hosts that integrations cover. Nothing passes
    while `unresolved` contains an integration, whose targets are unknown, or while Sidekey `awaits_store`, since a
    stored integration may cover the target. Tunnels pass to `ports` only.
    """

    __slots__ = ("awaits_store", "candidate", "coverage", "ports", "unresolved")

    def __init__(
        self,
        candidate: C_co,
        coverage: Coverage,
        unresolved: frozenset[str],
        ports: frozenset[int] = frozenset(),
        *,
        awaits_store: bool = False,
    ) -> None:
        self.candidate: Final = candidate
        self.coverage: Final = coverage
        self.unresolved: Final = unresolved
        self.ports: Final = ports
        self.awaits_store: Final = awaits_store

    def target(self, url: bytes, named: IntegrationRules | None) -> Target | Problem | None:
        """Return the target if it passes, None if the named integration must check it, or a Problem."""
        try:
            target = parse_target(url.decode("latin-1"))
        except InvalidTarget as error:
            return None if named is not None else _malformed(error)
        passes = self.passes(target.origin.host, named)
        if isinstance(passes, Problem):
            return passes
        return target if passes else None

    def passes(self, host: str, named: IntegrationRules | None) -> bool | Problem:
        """Return True if requests to this host pass, False if an integration covers it, or a Problem."""
        # The request may name an integration whose rules are older than the last reload and cover more.
        if self.coverage.covers(host) or (named is not None and Coverage.of((named.policy,)).covers(host)):
            return False
        if (self.unresolved or self.awaits_store) and named is not None and named.unresolved:
            return False
        if self.awaits_store:
            return STORE_UNREAD
        if self.unresolved:
            detail = "the targets of an integration cannot be read: until then nothing passes without a credential"
            return Problem("credential_unavailable", detail, error="proxy_configuration_error")
        if host.endswith("."):
            return Problem("target_denied", "the target's host must not end in a dot", denial="trailing_dot")
        return True


class Routes(Protocol[C_co]):
    """Integrations and proxy listener of this process."""

    @property
    def instance(self) -> bytes:
        """Random word in the Via header of this process, which detects loops."""
        ...

    @property
    def passthrough(self) -> PassthroughPolicy[C_co] | None:
        """Policy for targets that no integration covers, or None if they are denied."""
        ...

    @property
    def matching(self) -> Matching | None:
        """Integrations by host, for requests that name none, or None if every request must name its integration."""
        ...

    @property
    def stored_at(self) -> frozenset[str]:
        """`ca.hosts`: the hosts at which stored integrations serve tunnels and requests that name no integration."""
        ...

    def find(self, name: bytes) -> C_co | None:
        """Find the integration of this ID."""
        ...

    def is_own_host(self, host: bytes | None) -> bool:
        """Return True if Host names the proxy listener. An HTTP/1.0 request may omit it."""
        ...


class Admitted(Generic[C_co]):
    """An admitted request: the integration `candidate` serves it at `target`. `rule` is the policy rule that allows it.

    `target` is None while the integration is unresolved: `decide_again` checks it later. `rule` is empty if the fast
    parser read the target, or if the target passes without a credential. `caller` is the caller's name, empty if there
    are no callers.
    """

    __slots__ = ("caller", "candidate", "rule", "target")

    def __init__(self, candidate: C_co, target: Target | None, rule: str = "", caller: str = "") -> None:
        self.candidate: Final = candidate
        self.target: Final = target
        self.rule: Final = rule
        self.caller: Final = caller

    def of(self, caller: Caller | None) -> Admitted[C_co]:
        """Return this decision for a request of a caller."""
        return self if caller is None else Admitted(self.candidate, self.target, self.rule, caller.name)


class Denied(Generic[C_co]):
    """A denied request and its `problem`.

    `candidate` and `preset` (an ID) are set if the caller may know that they exist, `caller` (a name) if it is
    authenticated. `authority` is the target of a CONNECT.
    """

    __slots__ = ("authority", "caller", "candidate", "preset", "problem")

    def __init__(
        self,
        problem: Problem,
        candidate: C_co | None = None,
        authority: Authority | None = None,
        preset: str = "",
        caller: str = "",
    ) -> None:
        self.problem: Final = problem
        self.candidate: Final = candidate
        self.authority: Final = authority
        self.preset: Final = preset
        self.caller: Final = caller

    def of(self, caller: Caller | None, authority: Authority | None = None) -> Denied[C_co]:
        """Return this denial for a request of a caller, or for a CONNECT to an authority."""
        name = self.caller if caller is None else caller.name
        return Denied(self.problem, self.candidate, authority or self.authority, self.preset, name)

    def until_store_read(self) -> Denied[C_co]:
        """Return the denial for a process that has not read its store: 503 if a stored row could admit the request."""
        if self.problem.denial not in _STORE_DECIDES:
            return self
        return Denied(STORE_UNREAD, self.candidate, self.authority, self.preset, self.caller)


STORE_UNREAD: Final = Problem(
    "store_unavailable",
    "the store has not been read yet, and no config file has this integration, preset, caller or target: retry later",
    headers=(("Retry-After", "5"),),
)

_STORE_DECIDES: Final = frozenset({"token_unknown", "integration_unknown", "preset_unknown", "not_covered"})
"""Denials that a stored caller, integration or preset could turn into an admission. All others are final."""


class RequestIdentity(Generic[C_co]):
    """The caller and the integration (None if the request names none), and the ID and token that name them.

    In a tunnel, `name` may come from the CONNECT. `token` is always the request's own.
    """

    __slots__ = ("caller", "candidate", "name", "token")

    def __init__(self, candidate: C_co | None, caller: Caller | None, name: bytes | None, token: bytes | None) -> None:
        self.candidate: Final = candidate
        self.caller: Final = caller
        self.name: Final = name
        self.token: Final = token


class TunnelAdmitted(Generic[C_co]):
    """An admitted CONNECT: the caller may open a tunnel to `authority`.

    If the tunnel `passes`, Sidekey forwards its bytes unchanged and without a credential, and `candidate` is that of
    the `PassthroughPolicy`. Otherwise `candidate` is the integration that the CONNECT names, or None to find one for
    each request. `name` and `token` are those of the CONNECT.
    """

    __slots__ = ("authority", "caller", "candidate", "name", "passes", "token")

    def __init__(
        self,
        authority: Authority,
        candidate: C_co | None,
        *,
        passes: bool,
        name: bytes | None,
        token: bytes | None,
        caller: Caller | None,
    ) -> None:
        self.authority: Final = authority
        self.candidate: Final = candidate
        self.passes: Final = passes
        self.name: Final = name
        self.token: Final = token
        self.caller: Final = caller

    def entry(self, scheme: str) -> TunnelEntry:
        """Build the entry for requests of this scheme in the tunnel."""
        return TunnelEntry(self.authority.origin(scheme), self.name, self.token)


def is_forward(target: bytes) -> bool:
    """Return True if a request target is for the forward proxy: neither a path nor `*`."""
    return not target.startswith(b"/") and target != b"*"


def named_id(head: RequestHead, entry: TunnelEntry | None = None) -> str:
    """Return the integration ID in a request, admitted or not. It is empty without an ID, or with several."""
    written = head.proxy_authorization
    try:
        user = naming.NO_NAMING if written is None else naming.parse_proxy_authorization(written)
        tunnelled = None if entry is None else entry.name
        name = naming.single_value(naming.reverse_id(head.target), head.integration_id, user.integration, tunnelled)
    except naming.InvalidNaming:
        return ""
    return "" if name is None else name.decode("latin-1")


def named_origin(head: RequestHead, base: Prefix | None, rules: IntegrationRules | None) -> Origin | None:
    """Return the origin a request was meant for, even if it was denied, or None if the target is malformed.

    `base` and `rules` belong to the integration that the request names.
    """
    if not is_forward(head.target):
        return base.origin if base is not None and head.target.startswith(naming.REVERSE) else None
    try:
        target = parse_target(head.target.decode("latin-1"))
    except InvalidTarget:
        return None
    return (target if rules is None else rules.resolve_target(target)).origin


def decide(
    head: RequestHead,
    callers: Mapping[bytes, Caller] | None,
    routes: Routes[C],
    entry: TunnelEntry | None = None,
    *,
    awaits_store: bool = False,
) -> Admitted[C] | Denied[C]:
    """Decide on a request that names no preset. `callers` are keyed by the SHA-256 digest of their token.

    Requests need no token if `callers` is None. A request in a tunnel has an `entry` and an absolute target. Sidekey
    `awaits_store` until it has read its store once.
    """
    try:
        decision = _decide(head, callers, routes, entry)
    except naming.InvalidNaming as error:
        return Denied(Problem("request_invalid", str(error), denial="names_differ"))
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C], entry: TunnelEntry | None
) -> Admitted[C] | Denied[C]:
    forward = is_forward(head.target)
    if entry is not None and (not forward or head.method == b"CONNECT"):
        detail = "a request in a tunnel must have a path or an absolute URL as its target, and must not be a CONNECT"
        return Denied(Problem("request_invalid", detail, denial="target_malformed"))
    id_ = naming.reverse_id(head.target)
    if not forward and not id_:
        return Denied(_NO_PATH)
    if head.method == b"TRACE":
        return Denied(_TRACE)
    if not forward and (problem := check_browser(head, callers, routes)) is not None:
        return Denied(problem)
    identity = _identify(head, callers, routes, id_, entry)
    if isinstance(identity, Denied):
        return identity
    return _decide_identified(head, identity, routes, entry).of(identity.caller)


def _decide_identified(
    head: RequestHead, identity: RequestIdentity[C], routes: Routes[C], entry: TunnelEntry | None
) -> Admitted[C] | Denied[C]:
    candidate = identity.candidate
    if entry is not None and entry.is_misdirected(head):
        detail = "Host, and a target that is absolute, must name the authority that the tunnel was opened to"
        return Denied(Problem("misdirected", detail, denial="other_host"), candidate)
    if entry is not None and (problem := may_not_tunnel(candidate, entry.origin.host, routes)) is not None:
        return Denied(problem, candidate)
    chosen = _choose(head, candidate, routes.passthrough)
    if chosen is None:
        chosen = _choose_by_host(head, identity.caller, routes, inside=entry is not None)
    if isinstance(chosen, Denied):
        return chosen
    if naming.is_loop(head.mark(Role.VIA) or b"", routes.instance):
        return Denied(LOOP, chosen.candidate)
    return judge(head, chosen.candidate) if chosen.target is None else chosen


def _choose(
    head: RequestHead, named: C | None, passthrough: PassthroughPolicy[C] | None
) -> Admitted[C] | Denied[C] | None:
    """Choose passthrough or the named integration, or return None if neither applies.

    The target of the named integration is None: `judge` must still check it.
    """
    # An integration covers every target that its fast parser allows, so such a target cannot pass.
    if passthrough is not None and is_forward(head.target) and not _is_matched_fast(head, named):
        target = passthrough.target(head.target, None if named is None else named.rules)
        if isinstance(target, Problem):
            return Denied(target, named)
        if target is not None:
            return Admitted(passthrough.candidate, target)
    return None if named is None else Admitted(named, None)


def _is_matched_fast(head: RequestHead, named: C | None) -> bool:
    return named is not None and named.match_fast(head.target, forward=True) is not None


_NO_PATH: Final = Problem(
    "not_found", "no such path: use /i/{id}/..., or /p/{id} of a preset, or configure Sidekey as HTTP_PROXY"
)
_TRACE: Final = Problem(
    "method_denied", "TRACE is never forwarded", headers=(("Allow", COMMON_METHODS),), denial="trace"
)
LOOP: Final = Problem("loop_detected", "Via shows that the request has already passed through Sidekey", denial="loop")
_NO_INTEGRATION: Final = Problem(
    "integration_denied", "there is no such integration for this caller", denial="integration_unknown"
)
# For every ID that the caller may not use, existing or not: metrics must not reveal IDs of other callers' integrations.
_NOT_ITS_INTEGRATION: Final = replace(_NO_INTEGRATION, denial="integration_unlisted")


def authenticate(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, user: naming.Naming, entry: TunnelEntry | None = None
) -> Caller | Problem | None:
    """Find the caller by its token. Return None if there are no callers. Raises InvalidNaming."""
    if callers is None:
        return None
    token = naming.single_value(user.token, head.token, None if entry is None else entry.token)
    caller = None if token is None else find_caller(callers, token)
    if caller is None:
        denial: Denial = "token_missing" if token is None else "token_unknown"
        return _unknown_caller(denial, forward=is_forward(head.target), inside=entry is not None)
    return caller


def _identify(
    head: RequestHead,
    callers: Mapping[bytes, Caller] | None,
    routes: Routes[C],
    target_id: bytes,
    entry: TunnelEntry | None,
) -> RequestIdentity[C] | Denied[C]:
    """Authenticate the caller and find the integration that the request names. Raises InvalidNaming."""
    written = head.proxy_authorization
    user = naming.NO_NAMING if written is None else naming.parse_proxy_authorization(written)
    tunnelled = None if entry is None else entry.name
    name = naming.single_value(target_id, head.integration_id, user.integration, tunnelled)
    caller = authenticate(head, callers, user, entry)
    if isinstance(caller, Problem):
        return Denied(caller)
    candidate: C | None = None
    if name is not None:
        is_permitted = caller is None or caller.may_use(name.decode("latin-1"))
        candidate = routes.find(name) if is_permitted else None
        if candidate is None:
            denied: Denied[C] = Denied(_NO_INTEGRATION if is_permitted else _NOT_ITS_INTEGRATION)
            return denied.of(caller)
    return RequestIdentity(candidate, caller, name, user.token or head.token or None)


def decide_connect(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C], *, awaits_store: bool = False
) -> TunnelAdmitted[C] | Denied[C]:
    """Decide whether the caller may open a tunnel. This admits no request that the caller sends through the tunnel.

    An unresolved candidate is admitted: the caller of this function decides again once the candidate is resolved.
    """
    decision = _decide_connect(head, callers, routes)
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide_connect(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C]
) -> TunnelAdmitted[C] | Denied[C]:
    try:
        authority = parse_authority(head.target.decode("latin-1"))
    except InvalidTarget as malformed:
        return Denied(_malformed(malformed))
    try:
        identity = _identify(head, callers, routes, b"", None)
    except naming.InvalidNaming as ambiguous:
        # mypyc types `error` once per function, so this exception needs another name than `malformed`.
        identity = Denied(Problem("request_invalid", str(ambiguous), denial="names_differ"))
    if isinstance(identity, Denied):
        return identity.of(None, authority)
    return _decide_tunnel(head, identity, authority, routes)


def _decide_tunnel(
    head: RequestHead, identity: RequestIdentity[C], authority: Authority, routes: Routes[C]
) -> TunnelAdmitted[C] | Denied[C]:
    candidate, caller = identity.candidate, identity.caller
    problem = may_not_tunnel(candidate, authority.host, routes)
    if problem is None and naming.is_loop(head.mark(Role.VIA) or b"", routes.instance):
        problem = LOOP
    passes = _passes(authority, candidate, routes.passthrough) if problem is None else problem
    if isinstance(passes, Problem):
        return Denied(passes, candidate, authority).of(caller)
    if not passes and (problem := _check_reach(authority, candidate, caller, routes)) is not None:
        return Denied(problem, candidate, authority).of(caller)
    if passes and routes.passthrough is not None:
        candidate = routes.passthrough.candidate
    return TunnelAdmitted(authority, candidate, passes=passes, name=identity.name, token=identity.token, caller=caller)


def _passes(authority: Authority, named: C | None, passthrough: PassthroughPolicy[C] | None) -> bool | Problem:
    """Return True if the tunnel's bytes pass unchanged, False if Sidekey terminates the tunnel, or a Problem."""
    if passthrough is None:
        return False
    passes = passthrough.passes(authority.host, None if named is None else named.rules)
    if passes is True and authority.port not in passthrough.ports:
        return Problem("target_denied", "the port of the target is not in forward.pass_ports", denial="pass_ports")
    return passes


def _check_reach(authority: Authority, named: C | None, caller: Caller | None, routes: Routes[C]) -> Problem | None:
    """Return a Problem if every request in a tunnel to this authority would be outside the policies."""
    if named is not None:
        if named.rules.unresolved or named.rules.may_reach(authority):
            return None
        detail = "no target at this host and port is inside the integration's policy"
        return Problem("target_denied", detail, denial="outside_policy")
    if routes.matching is None:
        return _unnamed(inside=False)
    is_covered = any(
        candidate.rules.may_reach(authority) for candidate in _find_by_host(authority.host, caller, routes)
    )
    return None if is_covered else _NOT_COVERED


_NOT_COVERED: Final = Problem(
    "target_denied", "no integration of this caller covers the target: name one, or see policies", denial="not_covered"
)


def _find_by_host(host: str, caller: Caller | None, routes: Routes[C]) -> list[C]:
    """Return the resolved integrations that may serve the caller's request to this host without being named."""
    matching = routes.matching
    candidates = []
    for name in () if matching is None else matching.at(host):
        if caller is None or caller.may_use(name):
            candidate = routes.find(name.encode())
            if candidate is None or candidate.rules.unresolved:
                continue
            if candidate.rules.stored and not _may_serve_unnamed(name, host, caller, routes):
                continue
            candidates.append(candidate)
    return candidates


def _may_serve_unnamed(name: str, host: str, caller: Caller | None, routes: Routes[C]) -> bool:
    """Return True if a host may select this stored integration: it is under `ca.hosts`, and the caller lists the ID."""
    return caller is not None and caller.lists(name) and is_under(host, routes.stored_at)


def may_not_tunnel(candidate: C | None, host: str, routes: Routes[C]) -> Problem | None:
    """Return a Problem for a stored integration in a tunnel to a host that `ca.hosts` does not cover."""
    if candidate is None or not candidate.rules.stored or is_under(host, routes.stored_at):
        return None
    detail = "in a tunnel a stored integration may be used only at hosts under ca.hosts"
    return Problem("ca_unavailable", detail, denial="ca_hosts")


def _choose_by_host(
    head: RequestHead, caller: Caller | None, routes: Routes[C], *, inside: bool
) -> Admitted[C] | Denied[C]:
    """Choose the integration that covers the target of a request that names none. `judge` must still check it."""
    if routes.matching is None:
        return Denied(_unnamed(inside=inside))
    try:
        host = parse_target(head.target.decode("latin-1")).origin.host
    except InvalidTarget as error:
        return Denied(_malformed(error))
    denied: Denied[C] | None = None
    for candidate in _find_by_host(host, caller, routes):
        decision = _judge_target(head, candidate)
        if isinstance(decision, Admitted):
            return Admitted(candidate, None)
        # A target outside this policy may be covered by another one. Any other denial is reported if none admits it.
        if decision.problem.code != "target_denied" or decision.problem.denial == "method_not_allowed":
            denied = decision
    return denied or Denied(_NOT_COVERED)


def decide_again(head: RequestHead, candidate: C, passthrough: PassthroughPolicy[C] | None) -> Admitted[C] | Denied[C]:
    """Decide again on an admitted request once its candidate is resolved."""
    chosen = _choose(head, candidate, passthrough)
    if chosen is None or (isinstance(chosen, Admitted) and chosen.target is None):
        return judge(head, candidate)
    return chosen


def judge(head: RequestHead, candidate: C) -> Admitted[C] | Denied[C]:
    """Check method and target of a request against the candidate's current rules."""
    rules = candidate.rules
    if head.method not in rules.methods:
        method = head.method.decode("latin-1")
        detail = f"{method} is not among the integration's methods"
        allow = ("Allow", rules.allow)
        return Denied(Problem("method_denied", detail, headers=(allow,), denial="method_not_allowed"), candidate)
    return _judge_target(head, candidate)


def _judge_target(head: RequestHead, candidate: C) -> Admitted[C] | Denied[C]:
    rules = candidate.rules
    if rules.unresolved:
        return Admitted(candidate, None)
    forward = is_forward(head.target)
    url = head.target if forward else naming.split_reverse(head.target)[1]
    matched = candidate.match_fast(url, forward=forward)
    if matched is not None:
        return Admitted(candidate, matched)
    try:
        if forward:
            target = rules.resolve_target(parse_target(url.decode("latin-1")))
        else:
            target = parse_target(f"{rules.base}{url.decode('latin-1')}")
        if rules.canonical is not None:
            target = rules.canonical.canonicalize(target)
        decision = targets.judge(rules.policy, target)
    except (InvalidTarget, UnreadablePath) as error:
        decision = targets.unreadable(error)
    if not decision.allowed:
        return Denied(Problem(decision.code, decision.reason, denial=decision.denial), candidate)
    problem = _check_query(target.query, rules)
    return Admitted(candidate, target, decision.rule) if problem is None else Denied(problem, candidate)


def _check_query(query: str | None, rules: IntegrationRules) -> Problem | None:
    canonical = rules.canonical
    if not query:
        return None
    try:
        if rules.configured.methods is not None and overrides_method(query, rules.methods):
            detail = "the query must not name a method in _method or _HttpMethod that is not among the integration's"
            return Problem("target_denied", detail, denial="method_not_allowed")
        if rules.parameters and contains_parameter(query, rules.parameters):
            detail = "the query must not contain a parameter that Sidekey adds itself"
            return Problem("request_invalid", detail, denial="parameter_injected")
        if canonical is not None and canonical.contains_reserved(query):
            detail = f"the query must not contain a parameter whose name begins with {canonical.reserved}"
            return Problem("request_invalid", detail, denial="parameter_injected")
    except UnreadableNames as error:
        return Problem("request_invalid", f"the query {error}", denial="parameters_unreadable")
    return None


def check_browser(head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C]) -> Problem | None:
    """Refuse requests of web pages to the reverse proxy, including those by DNS rebinding."""
    if head.mark(Role.SEC_FETCH_SITE) not in (None, b"none"):
        return Problem("door_denied", "requests from web pages are refused (Sec-Fetch-Site)", denial="browser")
    if head.mark(Role.ORIGIN) is not None and callers is None:
        detail = "requests from web pages are refused (Origin) where no callers are configured"
        return Problem("door_denied", detail, denial="browser")
    if not routes.is_own_host(head.host):
        detail = "Host must be this listener's: an IP address, localhost or one of listen.names"
        return Problem("door_denied", detail, denial="foreign_host")
    return None


def _malformed(error: InvalidTarget) -> Problem:
    return Problem("request_invalid", str(error), denial="target_malformed")


def _unknown_caller(denial: Denial, *, forward: bool, inside: bool) -> Problem:
    detail = "send the caller's token in Sidekey-Token or as the proxy user's password"
    if inside:
        # No challenge: the CONNECT was authenticated, and the server that the client talks to would send none.
        detail = "the caller that opened the tunnel is no longer in the config: open another one with a valid token"
        return Problem("caller_denied", detail, status=403, denial=denial)
    if forward:
        return Problem("caller_denied", detail, status=407, headers=(_CHALLENGE,), denial=denial)
    return Problem("caller_denied", detail, headers=(_TOKEN_CHALLENGE,), denial=denial)


def _unnamed(*, inside: bool) -> Problem:
    detail = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
    if inside:
        # No challenge: a CONNECT gets one.
        return Problem("integration_required", detail, status=403, denial="integration_missing")
    return Problem("integration_required", detail, headers=(_CHALLENGE,), denial="integration_missing")
