"""How an integration stands, in one word: the same one in the API, the console, the commands and the metric.

Pure: the time and what is known of requests are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from sidekey.runtime.snapshot import Integration, Judgement, Stored

State = Literal[
    "ok", "expiring", "failing", "not_fetched", "secret_missing", "expired", "hidden", "invalid", "sealed", "altered"
]
"""How an integration stands.

`expiring`: its client certificate ends within `EXPIRING`; `failing`: its last `FAILING` requests have failed (which of
them count: `observe.traffic`), and those before back to when it says; `not_fetched`: its client certificate comes from
a URL and was never fetched; `secret_missing`: a secret, or the file of its client certificate, cannot be read;
`expired`: its client certificate has ended. `invalid`: its client certificate must not be used. The others are the
judgement of a stored one (`snapshot.StoredState`).
"""

STATES: Final[tuple[State, ...]] = (
    "ok",
    "expiring",
    "failing",
    "not_fetched",
    "secret_missing",
    "expired",
    "hidden",
    "invalid",
    "sealed",
    "altered",
)
"""All of them, by precedence: where several are true, the last of those is what is said.

What was judged when it was built comes before all that was found since, for nothing else is known of it. Then what
keeps every request from being sent, the certificate first, which is entered again together with its secret. That
requests fail is seen, and may have any reason. What only will be comes last.
"""

EXPIRING: Final = 21 * 86_400
"""Seconds before its end from which on a certificate is `expiring`, as in the alert SidekeyCertificateExpiresSoon."""

FAILING: Final = 3
"""Failures one after another, from which on an integration is failing."""

_SERVING: Final = frozenset({"ok", "expiring", "failing"})
"""The states in which requests are sent with the credential."""

_WELL: Final = Judgement("ok")


class Standing(NamedTuple):
    """How an integration stands, and why, for operators.

    `usable` says whether requests are sent with its credential, so that it can be chosen for a preset. `expires_at` is
    when its client certificate ends, None where it has none that is known; `failing_since` when the first of its last
    failures was. Both are in seconds since the epoch, and are told whatever its state is.
    """

    state: State
    reason: str = ""
    usable: bool = True
    expires_at: float | None = None
    failing_since: int | None = None


_OK: Final = Standing("ok")


def standing_of(
    integration: Integration | None,
    now: float,
    failing_since: int | None = None,
    judgement: Judgement = _WELL,
    ends_at: float | None = None,
) -> Standing:
    """How an integration stands at `now` (seconds since the epoch). None: it is stored, and not served.

    `judgement` is that of a stored one. `failing_since` is since when requests for its ID fail, None where they do not,
    or nothing is known of them; where it is not served they are not its own. `ends_at` is the end of a client
    certificate that only another process holds.
    """
    if integration is None:
        return Standing(judgement.state, judgement.reason, usable=False)
    secrets, certificate = integration.secrets, integration.certificate
    well = judgement.state == "ok" and certificate is None and failing_since is None and ends_at is None
    if well and secrets.credential is not None:
        # Almost all of ten thousand.
        return Standing("ok", judgement.reason) if judgement.reason else _OK
    ends = ends_at if certificate is None else certificate.ends_at
    state, reason = _said(integration, ends, now, failing_since, judgement)
    return Standing(state, reason, state in _SERVING, ends, failing_since)


def _said(
    integration: Integration, ends: float | None, now: float, failing_since: int | None, judgement: Judgement
) -> tuple[State, str]:
    if judgement.state != "ok":
        return judgement.state, judgement.reason
    if ends is not None and ends <= now:
        return "expired", f"its client certificate expired on {_moment(ends)}"
    certificate = integration.certificate
    if certificate is not None and certificate.refused:
        return "invalid", certificate.refused
    if not integration.usable:
        return "secret_missing", _unreadable(integration)
    if certificate is not None and certificate.not_fetched:
        return "not_fetched", f"not fetched: {certificate.not_fetched}"
    if failing_since is not None:
        return "failing", f"at least its last {FAILING} requests have failed, the first on {_moment(failing_since)}"
    if ends is not None and ends - now < EXPIRING:
        return "expiring", f"its client certificate expires on {_moment(ends)}"
    return "ok", judgement.reason


def _unreadable(integration: Integration) -> str:
    """Which part of one that is not usable cannot be read, and why."""
    secrets, certificate = integration.secrets, integration.certificate
    held = certificate if certificate is not None and secrets.credential is not None else secrets
    return "its secrets have not been read yet" if held.unreadable is None else str(held.unreadable)


def changed_states(stored: Stored, now: float, failing: Mapping[str, int]) -> Iterator[State]:
    """The states of the stored integrations that were judged ok and may stand otherwise by now.

    All others stand as they were judged. `failing` says since when integrations are failing, by ID.
    """
    for name, integration in stored.unsettled.items():
        yield standing_of(integration, now, failing.get(name)).state
    for name, since in failing.items():
        settled = stored.settled(name)
        if settled is not None:
            yield standing_of(settled, now, since).state


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
