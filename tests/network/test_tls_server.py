"""Contexts of TLS servers for callers: versions, ALPN, server names."""

from __future__ import annotations

import ssl

import pytest

from sidekey.ca.certificates import Signer, make_key
from sidekey.network.tls_server import handshake_outcome, server_context
from support.local_cas import NOW, authority_of
from support.tls_peer import shake

PEM = Signer(authority_of("https://up.test", "https://10.0.0.1"), make_key()).leaf("up.test", NOW)[0].encode()


def client(**options: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken_with_http_1_1(version: ssl.TLSVersion) -> None:
    context = client(minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    ours, _ = shake(context, server_context("up.test", PEM))
    assert ours.version() == version.name.replace("_", ".")
    assert ours.selected_alpn_protocol() == "http/1.1"


def test_a_client_without_that_protocol_goes_on_without_any() -> None:
    """gRPC then says itself that it needs h2."""
    context = client()
    context.set_alpn_protocols(["h2"])
    ours, _ = shake(context, server_context("up.test", PEM))
    assert ours.selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused() -> None:
    """RFC 8996."""
    context = client(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shake(context, server_context("up.test", PEM))


@pytest.mark.parametrize("name", ["up.test", "UP.TEST", None])
def test_the_name_is_the_hosts_or_absent(name: str | None) -> None:
    """An address is never sent as a server name (RFC 6066 3)."""
    ours, _ = shake(client(), server_context("up.test", PEM), name=name)
    shown = ours.getpeercert(binary_form=True)
    assert shown is not None
    assert ssl.DER_cert_to_PEM_cert(shown) in PEM.decode()


@pytest.mark.parametrize("name", ["other.test", "a.up.test", "test"])
def test_another_name_is_refused_with_its_alert(name: str) -> None:
    """What the server raises tells this from other failures."""
    with pytest.raises(ssl.SSLError) as refused:
        shake(client(), server_context("up.test", PEM), name=name)
    assert refused.value.reason == "CALLBACK_FAILED"


def test_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises((OSError, ValueError)):
        server_context("up.test", b"nonsense")


class Alerted(ssl.SSLError):
    """An error of OpenSSL's with this symbol."""

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
def test_what_a_failed_handshake_is_called(error: OSError, sent: bool, outcome: str) -> None:
    """Many clients that do not trust the CA just close."""
    assert handshake_outcome(error, certificate_sent=sent) == outcome
