"""TLS contexts for callers: versions, ALPN, server names."""

from __future__ import annotations

import ssl

import pytest

from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.network.tls_server import handshake_outcome, server_context
from support.local_cas import NOW, authority_of
from support.tls_peer import handshake

PEM = LeafSigner(authority_of("https://up.test", "https://10.0.0.1"), create_key()).issue("up.test", NOW)[0].encode()


def client(**options: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_tls_versions_negotiate_http_1_1(version: ssl.TLSVersion) -> None:
    context = client(minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    ours, _ = handshake(context, server_context("up.test", PEM))
    assert ours.version() == version.name.replace("_", ".")
    assert ours.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_may_resume_a_session(version: ssl.TLSVersion) -> None:
    ours, server = client(maximum_version=version), server_context("up.test", PEM)
    first, _ = handshake(ours, server)
    second, _ = handshake(ours, server, first.session)
    assert (first.session_reused, second.session_reused) == (False, True)


def test_client_without_http_1_1_continues_without_alpn() -> None:
    """gRPC then reports that it needs h2."""
    context = client()
    context.set_alpn_protocols(["h2"])
    ours, _ = handshake(context, server_context("up.test", PEM))
    assert ours.selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_versions_are_refused() -> None:
    """RFC 8996."""
    context = client(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(context, server_context("up.test", PEM))


@pytest.mark.parametrize("name", ["up.test", "UP.TEST", None])
def test_server_name_is_the_host_or_absent(name: str | None) -> None:
    """An address is never sent as a server name (RFC 6066 3)."""
    ours, _ = handshake(client(), server_context("up.test", PEM), name=name)
    shown = ours.getpeercert(binary_form=True)
    assert shown is not None
    assert ssl.DER_cert_to_PEM_cert(shown) in PEM.decode()


@pytest.mark.parametrize("name", ["other.test", "a.up.test", "test"])
def test_other_server_name_is_refused_with_its_alert(name: str) -> None:
    with pytest.raises(ssl.SSLError) as refused:
        handshake(client(), server_context("up.test", PEM), name=name)
    assert refused.value.reason == "CALLBACK_FAILED"


def test_key_of_another_certificate_is_refused() -> None:
    with pytest.raises((OSError, ValueError)):
        server_context("up.test", b"nonsense")


class Alerted(ssl.SSLError):
    """An OpenSSL error with this symbol."""

    def __init__(self, reason: str | None) -> None:
        super().__init__()
        if reason is not None:
            self.reason = reason


@pytest.mark.parametrize(
    ("error", "sent", "outcome"),
    [
        (Alerted("TLSV1_ALERT_UNKNOWN_CA"), True, "ca_untrusted"),
        (Alerted("SSLV3_ALERT_BAD_CERTIFICATE"), True, "ca_untrusted"),
        (Alerted("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), True, "ca_untrusted"),
        (Alerted("CALLBACK_FAILED"), False, "sni"),
        (Alerted("UNSUPPORTED_PROTOCOL"), False, "tls_failed"),
        (Alerted("SSLV3_ALERT_HANDSHAKE_FAILURE"), True, "tls_failed"),
        (Alerted(None), False, "tls_failed"),
        (ConnectionResetError(), True, "ca_untrusted"),
        (ConnectionResetError(), False, "caller_gone"),
    ],
)
def test_failed_handshake_has_its_metric_outcome(error: OSError, sent: bool, outcome: str) -> None:
    """Many clients that do not trust the CA close without an alert."""
    assert handshake_outcome(error, certificate_sent=sent) == outcome
