"""Explain a decision of the data plane: whether a target is allowed, where the credential goes, and what is signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sidekey.config.addresses import describe_route, route_refusal
from sidekey.config.field_types import check_method
from sidekey.config.secrets import kind_of
from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import HTTP_TOKEN, Keys
from sidekey.credentials.signing import ChainedSigningRules, OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import remedy_of
from sidekey.observe.output import printable
from sidekey.policy.addresses import Address
from sidekey.policy.decide import decide_again
from sidekey.policy.decision import Admitted, Denied
from sidekey.policy.headers import REQUEST_ROLES, Role, classify, normalise
from sidekey.policy.integration_rules import IntegrationRules
from sidekey.policy.messages import RequestHead
from sidekey.policy.passthrough import PassthroughPolicy
from sidekey.policy.redaction import MARK
from sidekey.policy.targets import Policy, Verdict, judge_target
from sidekey.policy.urls import DEFAULT_PORTS, InvalidTarget, Origin, Target, parse_target
from sidekey.proxy.content_coding import accept_encoding_line
from sidekey.proxy.upstream.request_writer import field_lines
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Integration, Passthrough, Snapshot

CONNECT_NOTE = (
    "for an https:// URL, set HTTPS_PROXY in the client and let it trust Sidekey's local CA, because Sidekey "
    "terminates the TLS of such a tunnel (CONNECT)"
)

PASSED_CONNECT_NOTE = (
    "clients send an https:// URL through CONNECT (HTTPS_PROXY): Sidekey passes its bytes unchanged, to the ports in "
    "forward.pass_ports, and the host itself terminates TLS"
)

STORED_NOTE = (
    "the store has this integration: through HTTPS_PROXY, it works only at the hosts in ca.hosts of the config, and "
    "below them"
)

DISCOVERED_NOTE = (
    "the base URL here is a placeholder: the token response has the real one, and Sidekey checks targets again with it"
)
PLACEHOLDER_NOTE = (
    "the response to the login or token request names the only allowed host: Sidekey sends targets at the host of that "
    "request there instead, and checks them again"
)
BODY_NOTE = "Sidekey adds fields to the body, which must be a form or a JSON object: any other is body_unsupported"

SIGNED_NOTE = "an ID and a nonce are new for each request: here they are zeros"

WEBSOCKET_NOTE = "a GET to an allowed target may be a WebSocket handshake (`upgrade: [websocket]`)"

REDACTED_NOTE = "Sidekey replaces the secrets that it adds with [redacted] in response bodies too"


_ZEROS: Final = RandomIds(bytes(16), bytes(16))


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample request to sign at the Unix time `at`. An empty `method` means a method that the integration allows."""

    at: float
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def parse_moment(value: object) -> float:
    """Parse a time with its offset (ISO 8601) or a Unix time. Return the Unix time. Raises ValueError."""
    try:
        text = str(value)
        is_number = text.isascii() and text.isdigit()
        parsed = datetime.fromtimestamp(int(text), UTC) if is_number else datetime.fromisoformat(text)
        # Raises OverflowError before the year 1 and after 9999 in UTC.
        moment = None if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None:
        raise ValueError("must be a time with its offset, such as 2026-01-31T23:59:59Z, or Unix seconds")
    return moment.timestamp()


def parse_method(value: object) -> str:
    """Parse a method in any case. An empty text stays empty. Raises ValueError."""
    return "" if value == "" else check_method(str(value).upper())


def parse_header(name: str, value: str) -> tuple[str, str]:
    """Strip a header and check that Sidekey forwards it. Raises ValueError."""
    name, value = name.strip(), value.strip()
    if not (HTTP_TOKEN.fullmatch(name) and value.isascii() and (value.isprintable() or not value)):
        raise ValueError("must be a name and a value of ASCII, such as 'Content-Type: text/plain'")
    if classify(name.encode(), REQUEST_ROLES).role is not Role.FORWARD:
        raise ValueError(f"must be one that goes on to the upstream: {name} does not")
    return name, value


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision on one target.

    `door` is the proxy that receives the request, `forward` or `reverse`. `as_sent` is the target that the caller
    sends. `sent_on` is the target that the upstream would receive, or None if it is malformed or unknown. `upgraded`:
    the forward proxy changes the scheme to https. `passes`: Sidekey forwards the request without a credential. `signed`
    has the escaped texts that the signature covers, and `unsigned` the reason why there are none.
    """

    integration: Integration
    door: str
    as_sent: str
    sent_on: str | None
    decision: Verdict
    upgraded: bool = False
    passes: bool = False
    notes: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    unsigned: str = ""

    @property
    def allowed(self) -> bool:
        """True if Sidekey would send the credential to this target."""
        return self.decision.allowed

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable members."""
        decision = self.decision
        signed: dict[str, Any] = {}
        if self.signed or self.unsigned:
            signed = {"signed": list(self.signed), "unsigned": self.unsigned or None}
        return {
            "integration": self.integration.id,
            "kind": self.integration.kind,
            "door": self.door,
            "as_sent": self.as_sent,
            "sent_on": self.sent_on,
            "upgraded": self.upgraded,
            "allowed": decision.allowed,
            "passes": self.passes,
            "code": decision.code or None,
            "reason": decision.reason,
            "rule": decision.rule or None,
            "credential": {"origin": self._origin, **credential_places(self.integration)} if decision.allowed else None,
            "token_files": self._token_files,
            "usable": self.integration.usable,
            "methods": sorted(self.integration.policy.methods) if self.integration.policy.methods else None,
            "profile": dict(self.integration.profile_entries),
            "note": "; ".join(self.notes) or None,
            **signed,
        }

    def __str__(self) -> str:
        decision = self.decision
        rows = [("integration", f"{self.integration.id} ({self.integration.kind})"), ("proxy", self.door)]
        rows.append(("as sent", self.as_sent))
        if self.sent_on is not None:
            rows.append(("sent on", f"{self.sent_on} (upgraded to https)" if self.upgraded else self.sent_on))
        if self.passes:
            rows += [("passes", decision.reason), ("credential", "is not sent")]
            rows += [("note", note) for note in self.notes]
            return _table(rows)
        if decision.allowed:
            rows.append(("allowed", f"by {decision.rule}: {decision.reason}"))
            places = "; ".join(
                f"{place}: {', '.join(names)}" for place, names in credential_places(self.integration).items() if names
            )
            rows.append(("credential", f"goes to {self._origin or 'the base URL in the token response'} in {places}"))
        else:
            rows.append(("denied", f"{decision.code}: {decision.reason}"))
            rows.append(("credential", "is not sent"))
            rows.append(("what to do", remedy_of(decision.code, decision.denial)))
            if decision.code not in ("destination_denied", "not_implemented"):
                rows += [("rule", rule) for rule in _describe_rules(self.integration.policy)]
        rows += [("token file", f"{path} (read before each call for a token)") for path in self._token_files]
        for source in (self.integration.secrets, self.integration.certificate):
            if source is not None and source.unreadable is not None:
                rows += [_describe_unreadable(keys, reason) for keys, reason in source.unreadable.reasons]
        if self.integration.policy.methods is not None:
            rows.append(("methods", ", ".join(sorted(self.integration.policy.methods))))
        rows += [("profile", f"{key}: {value}") for key, value in self.integration.profile_entries]
        rows += [("signed", text) for text in self.signed]
        rows += [("not signed", self.unsigned)] if self.unsigned else []
        rows += [("note", note) for note in self.notes]
        return _table(rows)

    @property
    def _token_files(self) -> list[str]:
        """The files that are read before each call for a token."""
        return [str(path) for path in self.integration.secrets.files]

    @property
    def dialled_host(self) -> str | None:
        """The host that Sidekey would dial. None if it dials none, or if only the token response has the host."""
        target = self.decision.target
        if target is None or self.has_unknown_origin or not (self.allowed or self.passes):
            return None
        return target.origin.host

    def egress_for(self, host: str) -> Egress:
        """Return the rules of connections to a host. Callers choose the targets that pass without a credential."""
        return Egress(resolve_locally=True) if self.passes else self.integration.egress_for(host)

    @property
    def _origin(self) -> str | None:
        """The origin that would receive the credential, or None if only the token response determines it."""
        target = self.decision.target
        return None if target is None or self.has_unknown_origin else str(target.origin)

    @property
    def has_unknown_origin(self) -> bool:
        """True if only the token response determines the origin."""
        # `_notes` adds the note if the base URL is a placeholder.
        target, placeholder = self.decision.target, self.integration.policy.placeholder_origin
        return DISCOVERED_NOTE in self.notes or (target is not None and target.origin == placeholder)


class _Candidate:
    """An integration for `policy.decide`. The exact parser reads all targets, since its decision names the rule."""

    def __init__(self, integration: Integration) -> None:
        self.rules: Final = integration.rules

    def match_fast(self, url: bytes, *, forward: bool) -> Target | None:
        """Leave each target to the exact parser."""
        del url, forward
        return None


def explain(
    integration: Integration, url: str, passthrough: Passthrough | None = None, sample: Sample | None = None
) -> Explanation:
    """Explain the decision on `url`: an absolute URL (forward proxy), or the part after `/i/ID` (reverse proxy).

    A `ws://` or `wss://` URL is that of a WebSocket handshake, which clients send to `http://` or `https://`.

    `policy.decide` decides as in the data plane, for a caller who may use the integration. `passthrough` is the
    snapshot's. With a `sample`, the explanation has the texts that its signature would cover.
    """
    scheme, separator, rest = url.partition("://")
    websocket = scheme.lower() in ("ws", "wss")
    if websocket:
        url = f"http{scheme[2:]}{separator}{rest}"
    if url and "://" not in url and not url.startswith(("/", "?")):
        # Some shells rewrite arguments that begin with a slash, so users may omit it.
        url = f"/{url}"
    reverse = url.startswith(("/", "?")) or not url
    door, as_sent = ("reverse", f"/i/{integration.id}{url}") if reverse else ("forward", url)
    candidate, policy = _Candidate(integration), None
    if passthrough is not None:
        policy = PassthroughPolicy(_Candidate(passthrough.integration), passthrough.coverage, passthrough.unresolved)
    head = _build_head(candidate.rules, as_sent, sample, websocket=websocket)
    # The data plane decides again once it has read an integration's values. Here the load has read them already.
    decision = decide_again(head, candidate, policy)
    if isinstance(decision, Admitted) and decision.target is None:
        reason = "a value that decides where the credential may go cannot be read"
        return Explanation(integration, door, as_sent, None, Verdict(False, "credential_unavailable", reason))
    requested, target = _resolve_target(candidate.rules, url, reverse=reverse)
    upgraded = target is not None and requested is not None and target.origin != requested.origin
    notes = _notes(integration, requested, reverse=reverse)
    if isinstance(decision, Denied):
        problem, hint = decision.problem, ""
        if problem.code == "target_denied" and target is not None:
            hint = _scheme_hint(integration.policy, target)
        verdict = Verdict(False, problem.code, problem.detail + hint, target, denial=problem.denial)
    elif decision.candidate is candidate:
        verdict = Verdict(True, "", "the target is allowed", decision.target, decision.rule)
    else:
        reason = "no integration covers this host: it is forwarded as it is (forward.unmatched: pass)"
        note = (PASSED_CONNECT_NOTE,) if requested is not None and requested.origin.scheme == "https" else ()
        passed = Verdict(False, "", reason, requested)
        return Explanation(integration, door, as_sent, _show(requested), passed, passes=True, notes=note)
    explanation = Explanation(integration, door, as_sent, _show(target), verdict, upgraded, notes=notes)
    signing = integration.traits.signing
    if sample is None or signing is None or not explanation.allowed:
        return explanation
    texts = _signed_texts(explanation, signing, candidate.rules.policy, head, sample)
    if isinstance(texts, str):
        return replace(explanation, unsigned=texts)
    return replace(explanation, signed=texts, notes=(*notes, SIGNED_NOTE))


def apply_address_rules(
    explanation: Explanation, snapshot: Snapshot, dns_addresses: Sequence[Address] = ()
) -> Explanation:
    """Deny the target if the config forbids its host, or all addresses in `dns_addresses`.

    Add a note about the parent proxy to an allowed one.
    """
    host, target = explanation.dialled_host, explanation.decision.target
    if host is None or target is None:
        return explanation
    egress = explanation.egress_for(host)
    reason = route_refusal(target.origin, egress, snapshot.network, dns_addresses)
    if reason is None:
        route = describe_route(target.origin, egress, snapshot.network, dns_addresses)
        return explanation if route is None else replace(explanation, notes=(*explanation.notes, route))
    denied = Verdict(False, "destination_denied", reason, explanation.decision.target)
    return replace(explanation, decision=denied, passes=False, signed=(), unsigned="")


def _build_head(rules: IntegrationRules, target: str, sample: Sample | None, *, websocket: bool) -> RequestHead:
    """Build a request head for the target. Its method is that of the sample, or one that the integration allows."""
    control_headers = {Role.UPGRADE: b"websocket"} if websocket else None
    method = b"GET" if b"GET" in rules.methods else min(rules.methods)
    # A command's argument may contain surrogates for bytes that its locale cannot decode (PEP 383).
    sent = target.encode("utf-8", "surrogateescape")
    if sample is None:
        return RequestHead(method, sent, b"localhost", [], [], control_headers)
    method, size = sample.method.encode() or method, len(sample.body)
    names = [normalise(name.encode()) for name, _ in sample.headers]
    lines = [f"\r\n{name}: {value}".encode("latin-1") for name, value in sample.headers]
    return RequestHead(
        *(method, sent, b"localhost", lines, names, control_headers, None, size), has_content_length=bool(size)
    )


def _signed_texts(
    explanation: Explanation, rules: SigningRules, policy: Policy, head: RequestHead, sample: Sample
) -> tuple[str, ...] | str:
    """Return the escaped texts that a request's signature covers, or a `str` with the reason why there are none."""
    integration, target = explanation.integration, explanation.decision.target
    if target is None or explanation.has_unknown_origin:
        return "the base URL comes with the token: the signed text is unknown"
    signer = _find_signer(integration, rules)
    if signer is None:
        return "the signing key cannot be read, or comes with the token: the signed text is unknown"
    places = integration.traits.injection_points
    lines = [b"\r\nHost: " + target.origin.authority.encode()]
    lines += [b"\r\n%b: %b" % (name.encode("latin-1"), MARK) for name in places.headers]
    if integration.redact_response:
        lines.append(accept_encoding_line(head.fields))
    lines = field_lines(head, lines, integration.removed_headers, length=head.length, via=b"")
    request = OutgoingRequest(
        head.method,
        target.origin.scheme.encode(),
        target.origin.authority.encode(),
        _add_redacted_query(target.request_target, places.query).encode("latin-1"),
        lines,
        head,
    )
    problem = rules.refusal(head, target.origin, policy) or signer.check(request)
    if problem is not None:
        return f"{problem.code}: {problem.detail}"
    body: Sequence[bytes] | None = [sample.body] if rules.needs_body(head) and sample.body else ()
    texts = signer.explain(request, None if places.body else body, sample.at, _ZEROS)
    return tuple(map(_escape, texts))


def _find_signer(integration: Integration, rules: SigningRules) -> Signer | None:
    """Return the signer if it is known without a token request."""
    credential, supplement = integration.secrets.credential, integration.secrets.supplement
    if isinstance(credential, FixedCredential):
        return credential.grant.signer
    # In a chain, the supplement signs after the signer that comes with the token.
    return None if supplement is None or isinstance(rules, ChainedSigningRules) else supplement.signer


def _add_redacted_query(target: str, names: Sequence[str]) -> str:
    added = "&".join(f"{name}={MARK.decode()}" for name in names)
    if not added:
        return target
    separator = "?" if "?" not in target else "" if target.endswith(("?", "&")) else "&"
    return f"{target}{separator}{added}"


_ESCAPES: Final = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def _escape(text: bytes) -> str:
    r"""Write bytes in printable ASCII. Escape other bytes as `\n`, `\r`, `\t` or `\xhh`, and a backslash as two."""
    return "".join(_ESCAPES.get(byte) or (chr(byte) if " " <= chr(byte) <= "~" else f"\\x{byte:02x}") for byte in text)


def _resolve_target(rules: IntegrationRules, url: str, *, reverse: bool) -> tuple[Target | None, Target | None]:
    """Return the absolute target of the request, and the target that Sidekey checks. Both are None if malformed."""
    try:
        requested = parse_target(f"{rules.base}{url}" if reverse else url)
    except InvalidTarget:
        return None, None
    resolved = requested if reverse else rules.resolve_target(requested)
    return requested, resolved if rules.canonical is None else rules.canonical.canonicalize(resolved)


def _notes(integration: Integration, requested: Target | None, *, reverse: bool) -> tuple[str, ...]:
    """Return the notes that apply to this integration and proxy for every decision."""
    if requested is None:
        return ()
    notes = []
    if reverse:
        notes += [DISCOVERED_NOTE] if integration.traits.discovers_base_url else []
    else:
        notes += [CONNECT_NOTE] if requested.origin.scheme == "https" else []
        notes += [STORED_NOTE] if integration.stored else []
        notes += [PLACEHOLDER_NOTE] if integration.policy.placeholder_origin is not None else []
    notes += [BODY_NOTE] if integration.traits.injection_points.body else []
    notes += [WEBSOCKET_NOTE] if integration.websocket else []
    notes += [REDACTED_NOTE] if integration.redact_response else []
    return tuple(notes)


def _scheme_hint(policy: Policy, target: Target) -> str:
    """Return a hint if the policy allows the denied target with the other scheme, else an empty text."""
    scheme, host, port = target.origin
    other = "http" if scheme == "https" else "https"
    if port == DEFAULT_PORTS[scheme]:
        port = DEFAULT_PORTS[other]
    decision = judge_target(policy, target._replace(origin=Origin(other, host, port)))
    return f": its scheme is {scheme}, and {decision.rule} needs {other}" if decision.allowed else ""


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<12} {printable(text)}" for name, text in rows)


def _show(target: Target | None) -> str | None:
    return None if target is None else f"{target.origin}{target.request_target}"


def credential_places(integration: Integration) -> dict[str, list[str]]:
    """Return the names of headers and parameters that contain the credential, by their place in a request."""
    places = integration.traits.injection_points
    names = {"headers": list(places.headers), "query": list(places.query), "body": list(places.body)}
    signing = integration.traits.signing
    if signing is not None:
        names["signature"] = sorted(name.decode() for name in signing.names)
    return names if integration.certificate is None else {**names, "handshake": ["client certificate"]}


def _describe_unreadable(keys: Keys, reason: str) -> tuple[str, str]:
    text = f"{'.'.join(keys)}: {reason}"
    if kind_of(reason) == "absent":
        return "command", text
    return "unreadable", f"{text}; until then the response is credential_unavailable"


def _describe_rules(policy: Policy) -> list[str]:
    rules = []
    if policy.prefixes:
        rules.append(f"the target must be under {' or '.join(map(str, policy.prefixes))}")
    if policy.domains:
        rules.append(f"the target must be at {' or '.join(map(str, policy.domains))}")
    if policy.path:
        rules.append(f"the target's path must be under {policy.path}")
    return rules + [f"the target must not be {forbidden}" for forbidden in policy.forbidden]
