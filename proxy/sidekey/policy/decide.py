"""The one admission: may a request take a credential, or pass without one, and where does it go.

Pure: functions over a frozen head, the callers and what is known of the integrations. The data plane and `explain`
both decide here. There is no default of "allow", and every denial is a value with its reason.

The caller is judged before the ID, so that whoever is not known learns nothing about which IDs exist; an unknown ID and
one that is not this caller's are answered alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol, TypeVar

from sidekey.errors import Denial, Problem
from sidekey.policy import naming
from sidekey.policy import targets as policy
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
"""What llhttp parses, without TRACE and CONNECT."""

_CHALLENGE = ("Proxy-Authenticate", 'Basic realm="sidekey"')
_TOKEN_CHALLENGE = ("WWW-Authenticate", 'Sidekey-Token realm="sidekey"')


@dataclass(frozen=True, slots=True)
class IntegrationRules:
    """What the targets of one integration are judged by.

    `own` is the integration's policy as configured; `policy` and `base` are what counts now, after a grant may have
    `learnt` more. `parameters` are those that Sidekey adds itself, so that a caller may not name them. `unresolved`
    says that a value that decides where the credential may go cannot be read yet. A `stored` one, which the operator
    has not written, is used in tunnels, and without being named, only where the operator lets it. `kept` are the fields
    that callers may send by a preset too. Where there is a `spelling`, targets are brought into it first; policy and
    base are in it already.
    """

    name: str
    own: Policy
    policy: Policy
    base: Prefix | None
    methods: frozenset[bytes] = DEFAULT_METHODS
    parameters: tuple[str, ...] = ()
    unresolved: bool = False
    stored: bool = False
    kept: frozenset[bytes] = frozenset()
    spelling: CanonicalForm | None = None

    @classmethod
    def of(
        cls,
        name: str,
        own: Policy,
        base: Prefix | None,
        parameters: tuple[str, ...],
        *,
        unresolved: bool,
        stored: bool = False,
        kept: frozenset[bytes] = frozenset(),
        spelling: CanonicalForm | None = None,
    ) -> IntegrationRules:
        """The rules of an integration before a grant has learnt anything."""
        methods = DEFAULT_METHODS
        if own.methods is not None:
            methods = frozenset(method.encode() for method in own.methods) & DEFAULT_METHODS
        return cls(name, own, own, base, methods, parameters, unresolved, stored, kept, spelling)

    def learnt(self, base: Prefix) -> IntegrationRules:
        """The rules once a grant has told the base URL. Raises ValueError where the policy does not allow it."""
        learnt = self.own.learn(base)
        return replace(self, policy=learnt, base=base)

    def aimed(self, target: Target) -> Target:
        """A target of the forward proxy as it is judged: upgraded, and moved to the origin that a grant learnt."""
        target = upgrade(self.own, target)
        if self.policy is self.own or self.base is None:
            return target
        return self.own.move(target, self.base.origin)

    def reach(self, authority: Authority) -> bool:
        """Whether something in a tunnel to this authority may be inside the policy: https, or http as it is aimed."""
        return any(
            self.policy.reaches(self.aimed(Target(authority.origin(scheme), "/", None)).origin)
            for scheme in ("https", "http")
        )

    @property
    def allow(self) -> str:
        """What stands in Allow (RFC 9110 10.2.1)."""
        methods = self.own.methods
        return COMMON_METHODS if methods is None else ", ".join(sorted(methods - policy.SAFE_METHODS_NEVER))


class Candidate(Protocol):
    """An integration that a request may name."""

    @property
    def rules(self) -> IntegrationRules:
        """What its targets are judged by now."""
        ...

    def read_quickly(self, url: bytes, *, forward: bool) -> Target | None:
        """The target where a quick reading may judge it and allows it; None leaves it to the exact one.

        `url` is absolute at the forward proxy, else what follows the ID.
        """
        ...


C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)


class PassthroughPolicy(Generic[C_co]):
    """How targets of the forward proxy that no integration covers go on, without a credential.

    `candidate` stands where an integration does for other targets. `unresolved` are the integrations of which it is
    not known yet what they cover: until then nothing passes. `ports` are those to which a tunnel may pass. While
    Sidekey `awaits_store`, nothing passes either: a stored integration may cover the target.
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
        """Where a target passes to, or why it is refused; None where it is the named integration's to judge."""
        try:
            target = parse_target(url.decode("latin-1"))
        except InvalidTarget as error:
            return None if named is not None else _malformed(error)
        verdict = self.passes(target.origin.host, named)
        if isinstance(verdict, Problem):
            return verdict
        return target if verdict else None

    def passes(self, host: str, named: IntegrationRules | None) -> bool | Problem:
        """Whether what goes to a host passes, or why it is refused; False where it is the named integration's."""
        # The rules of before a reload may cover what the integrations of now do not.
        if self.coverage.covers(host) or (named is not None and Coverage.of((named.policy,)).covers(host)):
            return False
        if (self.unresolved or self.awaits_store) and named is not None and named.unresolved:
            return False
        if self.awaits_store:
            return STORE_UNREAD
        if self.unresolved:
            detail = "what an integration covers cannot be read; until then nothing passes without a credential"
            return Problem("credential_unavailable", detail, error="proxy_configuration_error")
        if host.endswith("."):
            return Problem("target_denied", "the target's host must not end in a dot", denial="trailing_dot")
        return True


class Routes(Protocol[C_co]):
    """What is known of the integrations, and of this listener.

    `instance` is the random word by which this process knows its own Via.
    """

    @property
    def instance(self) -> bytes:
        """The word in this process's Via."""
        ...

    @property
    def unmatched(self) -> PassthroughPolicy[C_co] | None:
        """How targets that no integration covers go on; None where they are denied."""
        ...

    @property
    def matching(self) -> Matching | None:
        """Which integrations a target belongs to where the request names none; None where it must name one."""
        ...

    @property
    def stored_at(self) -> frozenset[str]:
        """The host names at and under which stored integrations may be used in tunnels, and without being named."""
        ...

    def find(self, name: bytes) -> C_co | None:
        """The integration of this ID."""
        ...

    def is_own_host(self, host: bytes | None) -> bool:
        """Whether a Host field is the proxy listener's own; an HTTP/1.0 request may leave it out."""
        ...


class Admitted(Generic[C_co]):
    """The integration `candidate` may serve the request at `target`. `rule` names the policy's rule that allows it.

    `target` is None while the integration is unresolved: `readmit` judges it later. `rule` is empty after the quick
    reading. `caller` is the caller's name, empty if there are no callers.
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
    """The request must not go on because of `problem`.

    `candidate` and `preset` (an ID) are set once the caller may know that they exist, `caller` (a name) once it is
    known. `authority` is the target of a CONNECT.
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
        """The same denial, of a request of this caller, or of a CONNECT to this authority."""
        name = self.caller if caller is None else caller.name
        return Denied(self.problem, self.candidate, authority or self.authority, self.preset, name)

    def until_store_read(self) -> Denied[C_co]:
        """The denial while the store was not read: 503 where a stored row could admit the request."""
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
    """As whose a request goes (None: it named nobody), who sends it, and the name and the token that it gave."""

    __slots__ = ("caller", "candidate", "name", "token")

    def __init__(self, candidate: C_co | None, caller: Caller | None, name: bytes | None, token: bytes | None) -> None:
        self.candidate: Final = candidate
        self.caller: Final = caller
        self.name: Final = name
        self.token: Final = token


class TunnelAdmitted(Generic[C_co]):
    """A tunnel to `authority` may be opened: what is known of it, and of who opens it.

    `candidate` is the integration that was named; None where each request inside goes to the one that covers it. Where
    it `passes`, the tunnel's bytes do, untouched and without a credential, and `candidate` is what stands for an
    integration there. `name` and `token` are what was given.
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
        """How requests of this scheme come in by the tunnel."""
        return TunnelEntry(self.authority.origin(scheme), self.name, self.token)


def is_forward(target: bytes) -> bool:
    """Whether a request target came by the forward proxy; `*` and other origin-forms are no way in at all."""
    return not target.startswith(b"/") and target != b"*"


def named_id(head: RequestHead, entry: TunnelEntry | None = None) -> str:
    """The ID that a request gives, whatever was decided of it; empty where it gives none, or two."""
    written = head.proxy_authorization
    try:
        user = naming.NO_NAMING if written is None else naming.proxy_user(written)
        tunnelled = None if entry is None else entry.name
        name = naming.agree(naming.reverse_id(head.target), head.integration_id, user.integration, tunnelled)
    except naming.InvalidNaming:
        return ""
    return "" if name is None else name.decode("latin-1")


def named_origin(head: RequestHead, base: Prefix | None, rules: IntegrationRules | None) -> Origin | None:
    """Where a request was to go, whatever was decided of it: `base` and `rules` are those of the integration it names.

    None where that is not known: of a target that cannot be read nothing is told.
    """
    if not is_forward(head.target):
        return base.origin if base is not None and head.target.startswith(naming.REVERSE) else None
    try:
        target = parse_target(head.target.decode("latin-1"))
    except InvalidTarget:
        return None
    return (target if rules is None else rules.aimed(target)).origin


def decide(
    head: RequestHead,
    callers: Mapping[bytes, Caller] | None,
    routes: Routes[C],
    entry: TunnelEntry | None = None,
    *,
    awaits_store: bool = False,
) -> Admitted[C] | Denied[C]:
    """Decide on one request that names no preset. `callers` are keyed by the SHA-256 digest of their token.

    No token is needed if `callers` is None. A request in a tunnel has an `entry`, and its target is already absolute.
    Sidekey `awaits_store` until it has read its store once.
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
    named = naming.reverse_id(head.target)
    if not forward and not named:
        return Denied(_NO_DOOR)
    if head.method == b"TRACE":
        return Denied(_TRACE)
    if not forward and (problem := check_browser(head, callers, routes)) is not None:
        return Denied(problem)
    found = _name(head, callers, routes, named, entry)
    return found if isinstance(found, Denied) else _decide_named(head, found, routes, entry).of(found.caller)


def _decide_named(
    head: RequestHead, found: RequestIdentity[C], routes: Routes[C], entry: TunnelEntry | None
) -> Admitted[C] | Denied[C]:
    """Decide on a request that says whose it is, as far as it does, and who sends it."""
    candidate = found.candidate
    if entry is not None and entry.misdirects(head):
        detail = "Host, and a target that is absolute, must name the authority that the tunnel was opened to"
        return Denied(Problem("misdirected", detail, denial="other_host"), candidate)
    if entry is not None and (problem := may_not_tunnel(candidate, entry.origin.host, routes)) is not None:
        return Denied(problem, candidate)
    chosen = _choose(head, candidate, routes.unmatched)
    if chosen is None:
        chosen = _match(head, found.caller, routes, inside=entry is not None)
    if isinstance(chosen, Denied):
        return chosen
    if naming.passed_through(head.mark(Role.VIA) or b"", routes.instance):
        return Denied(LOOP, chosen.candidate)
    return judge(head, chosen.candidate) if chosen.target is None else chosen


_NO_DOOR: Final = Problem(
    "not_found", "no such path: use /i/{id}/..., or /p/{id} of a preset, or configure Sidekey as HTTP_PROXY"
)
_TRACE: Final = Problem(
    "method_denied", "TRACE is never forwarded", headers=(("Allow", COMMON_METHODS),), denial="trace"
)
LOOP: Final = Problem("loop_detected", "Via shows that the request has already passed through Sidekey", denial="loop")
_NO_INTEGRATION: Final = Problem(
    "integration_denied", "there is no such integration for this caller", denial="integration_unknown"
)
# Chosen by the caller's list alone, so that metrics do not tell whether an ID exists that others use.
_NOT_ITS_INTEGRATION: Final = replace(_NO_INTEGRATION, denial="integration_unlisted")


def authenticate(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, user: naming.Naming, entry: TunnelEntry | None = None
) -> Caller | Problem | None:
    """Find the caller by the token that the request gives; None if there are no callers. Raises InvalidNaming."""
    if callers is None:
        return None
    token = naming.agree(user.token, head.token, None if entry is None else entry.token)
    caller = None if token is None else find_caller(callers, token)
    if caller is None:
        denial: Denial = "token_missing" if token is None else "token_unknown"
        return _unknown_caller(denial, forward=is_forward(head.target), inside=entry is not None)
    return caller


def _name(
    head: RequestHead,
    callers: Mapping[bytes, Caller] | None,
    routes: Routes[C],
    named: bytes,
    entry: TunnelEntry | None,
) -> RequestIdentity[C] | Denied[C]:
    """What the request says of itself, or why it may not go on. `named` is the ID in its target.

    Raises InvalidNaming.
    """
    written = head.proxy_authorization
    user = naming.NO_NAMING if written is None else naming.proxy_user(written)
    name = naming.agree(named, head.integration_id, user.integration, None if entry is None else entry.name)
    caller = authenticate(head, callers, user, entry)
    if isinstance(caller, Problem):
        return Denied(caller)
    token = user.token or head.token
    if caller is not None and entry is not None:
        token = token or entry.token
    candidate: C | None = None
    if name is not None:
        is_listed = caller is None or caller.may_use(name.decode("latin-1"))
        candidate = routes.find(name) if is_listed else None
        if candidate is None:
            denied: Denied[C] = Denied(_NO_INTEGRATION if is_listed else _NOT_ITS_INTEGRATION)
            return denied.of(caller)
    return RequestIdentity(candidate, caller, name, token or None)


def decide_connect(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C], *, awaits_store: bool = False
) -> TunnelAdmitted[C] | Denied[C]:
    """Decide whether a tunnel may be opened. What is decided here counts for nothing that is sent through it.

    An unresolved candidate is admitted: this decides again once it is known what its targets are judged by. Sidekey
    `awaits_store` until it has read its store once.
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
        named = _name(head, callers, routes, b"", None)
    except naming.InvalidNaming as ambiguous:
        # A name of its own: compiled, one name would have the type of the first.
        named = Denied(Problem("request_invalid", str(ambiguous), denial="names_differ"))
    if isinstance(named, Denied):
        return named.of(None, authority)
    return _decide_tunnel(head, named, authority, routes)


def _decide_tunnel(
    head: RequestHead, named: RequestIdentity[C], authority: Authority, routes: Routes[C]
) -> TunnelAdmitted[C] | Denied[C]:
    """Decide on a CONNECT that says whose it is, as far as it does, and who sends it."""
    candidate = named.candidate
    problem = may_not_tunnel(candidate, authority.host, routes)
    if problem is None and naming.passed_through(head.mark(Role.VIA) or b"", routes.instance):
        problem = LOOP
    passes = _passes(authority, candidate, routes.unmatched) if problem is None else problem
    if isinstance(passes, Problem):
        return Denied(passes, candidate, authority).of(named.caller)
    if not passes and (problem := _out_of_reach(authority, candidate, named.caller, routes)) is not None:
        return Denied(problem, candidate, authority).of(named.caller)
    if passes and routes.unmatched is not None:
        candidate = routes.unmatched.candidate
    return TunnelAdmitted(authority, candidate, passes=passes, name=named.name, token=named.token, caller=named.caller)


def _passes(authority: Authority, named: C | None, unmatched: PassthroughPolicy[C] | None) -> bool | Problem:
    """Whether a tunnel's bytes pass untouched, or why there must not be one."""
    if unmatched is None:
        return False
    passes = unmatched.passes(authority.host, None if named is None else named.rules)
    if passes is True and authority.port not in unmatched.ports:
        return Problem("target_denied", "the port of the target is not in forward.pass_ports", denial="pass_ports")
    return passes


def _out_of_reach(authority: Authority, named: C | None, caller: Caller | None, routes: Routes[C]) -> Problem | None:
    """Why nothing that a tunnel could be used for may be inside a policy."""
    if named is not None:
        if named.rules.unresolved or named.rules.reach(authority):
            return None
        detail = "no target at this host and port is inside the integration's policy"
        return Problem("target_denied", detail, denial="outside_policy")
    if routes.matching is None:
        return _unnamed(inside=False)
    reached = any(each.rules.reach(authority) for each in _matching(authority.host, caller, routes))
    return None if reached else _UNMATCHED


_UNMATCHED: Final = Problem(
    "target_denied", "no integration of this caller covers the target: name one, or see policies", denial="not_covered"
)


def _matching(host: str, caller: Caller | None, routes: Routes[C]) -> list[C]:
    """The integrations of this caller that name a host; what they cover is known."""
    matching = routes.matching
    found = []
    for name in () if matching is None else matching.at(host):
        if caller is None or caller.may_use(name):
            candidate = routes.find(name.encode())
            if candidate is None or candidate.rules.unresolved:
                continue
            if candidate.rules.stored and not _may_match(name, host, caller, routes):
                continue
            found.append(candidate)
    return found


def _may_match(name: str, host: str, caller: Caller | None, routes: Routes[C]) -> bool:
    """Whether a stored integration may be matched by a host: the operator says where, and who lists it."""
    return caller is not None and caller.lists(name) and is_under(host, routes.stored_at)


def may_not_tunnel(candidate: C | None, host: str, routes: Routes[C]) -> Problem | None:
    """Return why a stored integration may not be used in a tunnel to a host. `ca.hosts` lists where it may."""
    if candidate is None or not candidate.rules.stored or is_under(host, routes.stored_at):
        return None
    detail = "in a tunnel a stored integration may be used only at hosts under ca.hosts"
    return Problem("ca_unavailable", detail, denial="ca_hosts")


def _match(head: RequestHead, caller: Caller | None, routes: Routes[C], *, inside: bool) -> Admitted[C] | Denied[C]:
    """Whose a request is that names no integration: the one's that covers its whole target."""
    if routes.matching is None:
        return Denied(_unnamed(inside=inside))
    try:
        host = parse_target(head.target.decode("latin-1")).origin.host
    except InvalidTarget as error:
        return Denied(_malformed(error))
    denied: Denied[C] | None = None
    for candidate in _matching(host, caller, routes):
        found = _judge_target(head, candidate)
        if isinstance(found, Admitted):
            return Admitted(candidate, None)
        # A target outside the policy is another integration's matter. A query that names a method is this one's.
        if found.problem.code != "target_denied" or found.problem.denial == "method_not_allowed":
            denied = found
    return denied or Denied(_UNMATCHED)


def decide_again(head: RequestHead, candidate: C, unmatched: PassthroughPolicy[C] | None) -> Admitted[C] | Denied[C]:
    """Decide again once it is known what the candidate's targets are judged by."""
    chosen = _choose(head, candidate, unmatched)
    if chosen is None or (isinstance(chosen, Admitted) and chosen.target is None):
        return judge(head, candidate)
    return chosen


def judge(head: RequestHead, candidate: C) -> Admitted[C] | Denied[C]:
    """Judge method and target alone, by the rules of now."""
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
    quick = candidate.read_quickly(url, forward=forward)
    if quick is not None:
        return Admitted(candidate, quick)
    try:
        if forward:
            target = rules.aimed(parse_target(url.decode("latin-1")))
        else:
            target = parse_target(f"{rules.base}{url.decode('latin-1')}")
        if rules.spelling is not None:
            target = rules.spelling.spell(target)
        decision = policy.judge(rules.policy, target)
    except (InvalidTarget, UnreadablePath) as error:
        decision = policy.unreadable(error)
    if not decision.allowed:
        return Denied(Problem(decision.code, decision.reason, denial=decision.denial), candidate)
    problem = _check_query(target.query, rules)
    return Admitted(candidate, target, decision.rule) if problem is None else Denied(problem, candidate)


def _check_query(query: str | None, rules: IntegrationRules) -> Problem | None:
    own, spelling = rules.parameters, rules.spelling
    if not query:
        return None
    try:
        if rules.own.methods is not None and overrides_method(query, rules.methods):
            detail = "the query must not name a method in _method or _HttpMethod that is not among the integration's"
            return Problem("target_denied", detail, denial="method_not_allowed")
        if own and contains_parameter(query, own):
            detail = "the query must not contain a parameter that Sidekey adds itself"
            return Problem("request_invalid", detail, denial="parameter_injected")
        if spelling is not None and spelling.reserves_any(query):
            detail = f"the query must not contain a parameter whose name begins with {spelling.reserved}"
            return Problem("request_invalid", detail, denial="parameter_injected")
    except UnreadableNames as error:
        return Problem("request_invalid", f"the query {error}", denial="parameters_unreadable")
    return None


def check_browser(head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: Routes[C]) -> Problem | None:
    """Keep browsers out of the reverse proxy: a page must not reach it, not even by DNS rebinding."""
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
        # No challenge: the caller has its answer to one behind it, and the server it believes to talk to sends none.
        detail = "the caller that opened the tunnel is no longer in the config: open another one with a valid token"
        return Problem("caller_denied", detail, status=403, denial=denial)
    if forward:
        return Problem("caller_denied", detail, status=407, headers=(_CHALLENGE,), denial=denial)
    return Problem("caller_denied", detail, headers=(_TOKEN_CHALLENGE,), denial=denial)


def _unnamed(*, inside: bool) -> Problem:
    detail = "name the integration in X-Integration-Id or as the proxy user, http://ID:x@HOST:PORT"
    if inside:
        # No challenge here either; a CONNECT gets one.
        return Problem("integration_required", detail, status=403, denial="integration_missing")
    return Problem("integration_required", detail, headers=(_CHALLENGE,), denial="integration_missing")


def _choose(
    head: RequestHead, named: C | None, unmatched: PassthroughPolicy[C] | None
) -> Admitted[C] | Denied[C] | None:
    """Whose the request is: the named integration's, or it passes, and then its target is known as well.

    None where nobody is named and it does not pass.
    """
    if unmatched is not None and is_forward(head.target) and not _covered_quickly(head, named):
        target = unmatched.target(head.target, None if named is None else named.rules)
        if isinstance(target, Problem):
            return Denied(target, named)
        if target is not None:
            return Admitted(unmatched.candidate, target)
    return None if named is None else Admitted(named, None)


def _covered_quickly(head: RequestHead, named: C | None) -> bool:
    return named is not None and named.read_quickly(head.target, forward=True) is not None
