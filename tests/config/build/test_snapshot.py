import hashlib
from dataclasses import replace
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidekey.config.build.integration import build_integration
from sidekey.config.build.listeners import moved_keys
from sidekey.config.load import load
from sidekey.credentials.base import FixedCredential
from sidekey.errors import ProblemError
from sidekey.network.tls import client_context
from sidekey.policy.addresses import NetworkOverride
from sidekey.policy.callers import Caller
from sidekey.policy.targets import judge_url
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.snapshot import Address, Integration, Listen, Log, Snapshot, Trust
from support.loading import TENANT, loaded_snapshot, prefix, write
from support.private_ca import file_trust
from support.stored import OAUTH2, reader_of, settings_in, stored


def built(folder: Path, text: str, environ: dict[str, str] | None = None) -> Snapshot:
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    loaded = load(path, environ or {})
    assert loaded.errors == []
    assert loaded.snapshot is not None
    return loaded.snapshot


def integration(folder: Path, keys: str, environ: dict[str, str] | None = None) -> Integration:
    auth = "auth: {type: headers, headers: {X-Tenant: acme}}"
    return built(folder, f"integrations:\n  crm: {{{auth}, {keys}}}\n", environ).integrations["crm"]


def test_empty_config_has_the_defaults_of_the_snapshot(tmp_path: Path) -> None:
    assert built(tmp_path, "") == Snapshot(integrations={})


def test_every_global_key_reaches_the_snapshot(tmp_path: Path) -> None:
    """Durations in seconds, sizes in bytes, names in lower case, absolute paths."""
    snapshot = built(
        tmp_path,
        """
listen: {proxy: "unix:run/proxy.sock", admin: "[::1]:9091", metrics: 0.0.0.0:15091, names: [Sidekey.svc], mode: 0660}
network:
  hosts: {API.example.com: ["127.0.0.1", "::1"]}
  allow_private: [127.0.0.0/8, fd00::/8]
  search: true
timeouts: {connect: 1s, request_head: 2s, response: 3s, idle: 4s, keep_alive: 5s,
  write: 6s, total: 7s, drain_delay: 8s, drain: 500ms}
limits: {request_head: 1KiB, target: 2KiB, headers: 3, request_body: 4GiB,
  response_head: 5KiB, replay_body: 0B, signed_body: 6KiB, held_bodies: 12KiB, in_flight: 7, pipelined: 8}
log: {level: debug, access: off, path: true}
via: false
""",
    )
    assert snapshot.listen.proxy == Address(path=str(tmp_path / "run/proxy.sock"), mode=0o660)
    assert snapshot.listen.admin == Address("::1", 9091)
    assert snapshot.listen.metrics == Address("0.0.0.0", 15091)
    assert snapshot.listen.names == ("sidekey.svc",)
    assert snapshot.network.hosts == {"api.example.com": ("127.0.0.1", "::1")}
    assert snapshot.network.allow_private == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert snapshot.network.search is True
    assert snapshot.timeouts == Timeouts(1, 2, 3, 4, 5, 6, 7, 8, 0.5)
    assert snapshot.limits == Limits(1024, 2048, 3, 4 << 30, 5120, 0, 6144, 12_288, 7, 8)
    assert snapshot.log == Log("debug", "off", True)
    assert snapshot.via is False


def test_every_key_of_an_integration_reaches_the_snapshot(tmp_path: Path) -> None:
    """The base URL is the first prefix."""
    result = integration(
        tmp_path,
        "endpoint_prefix: [https://api.example.com/v1/, https://eu.example.com], methods: [GET, POST],"
        " description: CRM, tags: [a, b], allow_private: [10.0.0.0/8], trusted_ca: system,"
        " allow_other_domains: true, allowed_domains: ['https://*.example.com'], test: {method: POST, path: /whoami}",
    )
    assert (result.id, result.kind, result.description, result.tags) == ("crm", "headers", "CRM", ("a", "b"))
    assert [str(prefix) for prefix in result.policy.prefixes] == [
        "https://api.example.com/v1",
        "https://eu.example.com",
    ]
    assert [str(domain) for domain in result.policy.domains] == ["https://*.example.com"]
    assert result.policy.methods == {"GET", "POST"}
    assert result.base is result.policy.prefixes[0]
    assert result.egress.allow_private == (ip_network("10.0.0.0/8"),)
    assert result.egress.trust == Trust("system")
    assert result.test is not None
    assert (result.test.method, result.test.path) == ("POST", "/whoami")


def test_integration_without_methods_has_no_list_of_methods(tmp_path: Path) -> None:
    assert integration(tmp_path, "endpoint_prefix: https://api.example.com").policy.methods is None


def test_prefix_may_be_a_reference(tmp_path: Path) -> None:
    result = integration(tmp_path, "endpoint_prefix: {env: BASE}", {"BASE": "https://api.example.com/v1\n"})
    assert str(result.base) == "https://api.example.com/v1"


@pytest.mark.parametrize("environ", [{}, {"BASE": "api.example.com"}], ids=["not set", "no URL"])
async def test_integration_with_an_unreadable_prefix_allows_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    """It has no credential either."""
    result = integration(tmp_path, "endpoint_prefix: [https://api.example.com, {env: BASE}]", environ)
    assert not judge_url(result.policy, "GET", "https://api.example.com/v1").allowed
    assert result.base is None
    with pytest.raises(ProblemError, match="credential_unavailable") as caught:
        await result.secrets.obtain()
    assert caught.value.problem.detail.startswith("endpoint_prefix: ")


async def test_secret_that_appears_later_is_used(tmp_path: Path) -> None:
    snapshot = built(
        tmp_path,
        "integrations:\n  crm: {endpoint_prefix: https://api.example.com, "
        "auth: {type: headers, headers: {X-Key: {secret: {file: crm}}}}}\n",
    )
    (tmp_path / "crm").write_text("hunter2\n")
    credential = await snapshot.integrations["crm"].secrets.obtain()
    assert isinstance(credential, FixedCredential)
    assert credential.grant.headers == (("X-Key", "hunter2"),)


def test_callers_have_the_sha256_of_their_token_as_key(tmp_path: Path) -> None:
    """ "*" means all integrations, a missing key none."""
    snapshot = built(
        tmp_path,
        "callers:\n  all: {token: {insecure_value: ä}, integrations: '*'}\n  none: {token: {insecure_value: b}}\n"
        "  some: {token: {env: TOKEN}, integrations: [crm]}\nintegrations:\n"
        "  crm: {endpoint_prefix: https://api.example.com, auth: {type: headers, headers: {X-Tenant: acme}}}\n",
        {"TOKEN": "c\n"},
    )
    assert snapshot.callers == {
        hashlib.sha256("ä".encode()).digest(): Caller("all", None),
        hashlib.sha256(b"b").digest(): Caller("none", frozenset()),
        hashlib.sha256(b"c").digest(): Caller("some", frozenset({"crm"})),
    }


def test_unreadable_tokens_do_not_open_the_listener(tmp_path: Path) -> None:
    snapshot = built(tmp_path, "listen: {proxy: 0.0.0.0:0}\ncallers: {billing: {token: {file: none}}}\n")
    assert [caller.name for caller in snapshot.callers.values()] == ["billing"]
    assert hashlib.sha256(b"").digest() not in snapshot.callers


def test_ca_path_starts_at_the_config_folder(tmp_path: Path) -> None:
    """The integration's own replaces the network's, and the trust has the file's content."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = (
        "network: {trusted_ca: {file: ca.pem}}\nintegrations:\n"
        "  a: {endpoint_prefix: https://a.example.com, auth: {type: headers, headers: {X-Tenant: acme}}}\n"
        "  b: {endpoint_prefix: https://b.example.com, trusted_ca: mozilla,"
        " auth: {type: headers, headers: {X-Tenant: acme}}}\n"
    )
    snapshot = built(tmp_path, text)
    assert snapshot.integrations["a"].egress.trust == file_trust(tmp_path / "ca.pem")
    assert snapshot.integrations["a"].egress.trust.pem == (tmp_path / "ca.pem").read_text()
    assert snapshot.integrations["b"].egress.trust == Trust("mozilla")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "ca.pem does not exist; a relative path starts at the config file's folder"),
        ("", "ca.pem must contain a certificate in PEM"),
        ("hunter2", "ca.pem must contain a certificate in PEM"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "ca.pem must contain a certificate in PEM",
        ),
        ("-----BEGIN CERTIFICATE-----\nhunter2\n", "ca.pem contains a certificate that cannot be read"),
    ],
)
def test_unusable_ca_file_is_reported(tmp_path: Path, content: str | None, reason: str) -> None:
    """At each place that names it. `sidekey run` starts nevertheless."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    path = tmp_path / "sidekey.yaml"
    path.write_text(
        "version: 1\nnetwork: {trusted_ca: {file: ca.pem}}\nintegrations:\n  a: {endpoint_prefix: https://a.example.com,"
        " trusted_ca: {file: ca.pem}, auth: {type: headers, headers: {X-Tenant: acme}}}\n"
    )
    loaded = load(path, {})
    assert [(error.path, error.message) for error in loaded.of("unreadable")] == [
        ("network.trusted_ca", reason),
        ("integrations.a.trusted_ca", reason),
    ]
    assert loaded.snapshot is not None
    assert not loaded.snapshot.integrations["a"].egress.trust.usable


def test_text_between_certificates_may_have_any_encoding(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes("Autorité\n".encode() + pem + b"\xe9\n" + trustme.CA().cert_pem.bytes())
    snapshot = built(
        tmp_path,
        "integrations:\n  a: {endpoint_prefix: https://a.example.com, trusted_ca: {file: ca.pem},"
        " auth: {type: headers, headers: {X-Tenant: acme}}}\n",
    )
    assert len(client_context(snapshot.integrations["a"].egress.trust).get_ca_certs()) == 2


SOCKET = Address(path="/run/sidekey.sock")


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        (Listen(), Listen(), []),
        (Listen(), Listen(proxy=Address(port=1)), ["proxy"]),
        (Listen(), Listen(admin=Address("::1", 9090)), ["admin"]),
        (Listen(), Listen(metrics=Address(port=1)), ["metrics"]),
        (Listen(metrics=Address(port=1)), Listen(), ["metrics"]),
        (Listen(names=("a", "b")), Listen(names=("b", "a")), []),
        (Listen(names=("a",)), Listen(names=("b",)), ["names"]),
        (Listen(proxy=SOCKET), Listen(proxy=replace(SOCKET, mode=0o660)), ["mode"]),
        (Listen(proxy=SOCKET), Listen(proxy=Address(path="/run/other.sock", mode=0o660)), ["proxy"]),
    ],
)
def test_moved_keys_are_those_that_differ(first: Listen, second: Listen, keys: list[str]) -> None:
    """The mode counts only for unix sockets, the order of names does not."""
    assert list(moved_keys(first, second)) == keys


def built_of_store(document: dict[str, Any]) -> Integration:
    """Build a stored integration of this document."""
    row = stored(document)
    settings = settings_in(row.document)
    reader = reader_of(row)
    trust_of = cache(lambda trust: (trust, None))
    return build_integration(
        "crm", settings, Trust(), reader, trust_of, stored_networks=NetworkOverride(()), row_id=row.row_id
    )[0]


def test_stored_integration_has_its_row_and_destinations() -> None:
    """`redact_response` may become true without entering the secrets again."""
    result = built_of_store(OAUTH2)
    assert (result.stored, result.row) == (True, "row-of-crm")
    (destination,) = result.destinations
    assert "https://auth.example.com/token" in destination
    redacting = built_of_store({**OAUTH2, "description": "other", "redact_response": True})
    assert (len(redacting.destinations), redacting.destinations[1]) == (2, destination)
    other = {**OAUTH2, "auth": {**OAUTH2["auth"], "token_endpoint": "https://other.example.com/token"}}
    assert destination not in built_of_store(other).destinations


def test_integration_of_a_file_has_no_row_or_destinations(tmp_path: Path) -> None:
    write(tmp_path, f"crm {prefix('crm')}, {TENANT}")
    result = loaded_snapshot(load(tmp_path, {})).integrations["crm"]
    assert (result.stored, result.row, result.destinations) == (False, "", ("",))


def test_unreadable_secret_of_a_profile_has_its_key_in_the_document(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("version: 1\nintegrations: {it: {auth: {type: headers, provider: klaviyo, key: {env: KEY}}}}\n")
    loaded = load(path, {})
    assert [str(error) for error in loaded.of("unreadable")] == [
        f"{path}:2:67: integrations.it.auth.key: environment variable KEY is not set"
    ]
    assert loaded.snapshot is not None
    unreadable = loaded.snapshot.integrations["it"].secrets.unreadable
    assert str(unreadable) == "auth.key: environment variable KEY is not set"
