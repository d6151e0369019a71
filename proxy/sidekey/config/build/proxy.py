"""Build the parent proxy from its settings."""

from __future__ import annotations

from sidekey.config.build.trust import TrustOf, load_trust
from sidekey.config.models import ProxySettings
from sidekey.config.secrets import ReferenceReader
from sidekey.credentials.basic import build_basic, check_user_name
from sidekey.credentials.fields import Keys
from sidekey.policy.parent_proxy import NoProxy
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.trust import Trust


def build_proxy(
    settings: ProxySettings, trust: Trust, read: ReferenceReader, trust_of: TrustOf
) -> tuple[ParentProxy, list[tuple[Keys, str]]]:
    """Return the proxy, and the location and reason of each value that cannot be read.

    `trust` applies if the settings name no CAs. A proxy with an unreadable value has a `problem`.
    """
    trust, reason = load_trust(settings.trusted_ca, trust, read, trust_of)
    reasons: list[tuple[Keys, str]] = [] if reason is None else [(("trusted_ca",), reason)]
    values: dict[str, str] = {}
    for key, reference in (("username", settings.username), ("password", settings.password)):
        try:
            values[key] = "" if reference is None else read(reference)
            if key == "username":
                check_user_name(values[key])
        except ValueError as error:
            reasons.append(((key,), str(error)))
    authorization = build_basic(values["username"], values["password"]) if settings.username and not reasons else ""
    hosts = [entry for entry in settings.no_proxy if isinstance(entry, str)]
    proxy = ParentProxy(
        settings.url,
        authorization,
        trust,
        NoProxy(
            frozenset(host for host in hosts if not host.startswith(".")),
            tuple(host for host in hosts if host.startswith(".")),
            tuple(entry for entry in settings.no_proxy if not isinstance(entry, str)),
        ),
        settings.resolve == "proxy",
        "; ".join(f"proxy.{key}: {reason}" for (key,), reason in reasons),
    )
    return proxy, reasons
