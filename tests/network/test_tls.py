"""TLS contexts, and what a failure of TLS is called."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from sidekey.errors import Problem
from sidekey.network.tls import TlsContexts, client_context, tls_problem
from sidekey.settings.snapshot import Trust
from support.ca import Authority


@pytest.mark.parametrize("trust", [Trust(), Trust("system"), Trust("file", "FILE")], ids=lambda trust: trust.source)
def test_every_context_verifies_and_begins_at_tls_1_2(trust: Trust, ca: Authority) -> None:
    """Chain and host name are verified whatever is trusted, and old versions are off (RFC 8996)."""
    context = client_context(Trust("file", str(ca.bundle)) if trust.path else trust)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_the_mozilla_bundle_holds_roots() -> None:
    """The default trust knows public certificate authorities."""
    assert len(client_context(Trust()).get_ca_certs()) > 50


def test_a_file_is_trusted_alone(ca: Authority) -> None:
    """`trusted_ca: {file}` replaces the public authorities."""
    assert len(client_context(Trust("file", str(ca.bundle))).get_ca_certs()) == 1


def test_session_keys_are_never_written(ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$SSLKEYLOGFILE would let whoever reads it decrypt the credentials."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert client_context(Trust("file", str(ca.bundle))).keylog_filename is None
    assert not (tmp_path / "keys").exists()


def test_equal_trust_shares_a_context(ca: Authority) -> None:
    """Ten thousand integrations with the same trust hold one bundle."""
    contexts = TlsContexts()
    first = contexts.get(Trust("file", str(ca.bundle)))
    assert contexts.get(Trust("file", str(ca.bundle))) is first
    assert contexts.get(Trust("system")) is not first


@pytest.mark.parametrize("content", [None, "", "no certificate\n"], ids=["absent", "empty", "no PEM"])
def test_an_unusable_ca_file_is_told_by_its_key_and_tried_again(
    content: str | None, ca: Authority, tmp_path: Path
) -> None:
    """The answer names `trusted_ca` and not the path; a file that becomes good later is used."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    contexts = TlsContexts()
    with pytest.raises(Problem) as failed:
        contexts.get(Trust("file", str(file)))
    assert (failed.value.code, failed.value.error) == ("credential_unavailable", "proxy_configuration_error")
    assert "trusted_ca" in failed.value.detail
    assert str(tmp_path) not in failed.value.detail
    file.write_bytes(ca.bundle.read_bytes())
    assert contexts.get(Trust("file", str(file))).get_ca_certs()


def test_certifi_is_not_imported_before_it_is_needed() -> None:
    """A config without https upstreams pays nothing for TLS."""
    code = "import sys, sidekey.network.dial as d; d.Dialer(d.NetworkRules()); sys.exit('certifi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def verification_error(code: int) -> ssl.SSLCertVerificationError:
    """What OpenSSL reports, with a text that must not be shown."""
    fault = ssl.SSLCertVerificationError(1, "secret text")
    fault.verify_code = code
    return fault


def ssl_error(reason: str | None) -> ssl.SSLError:
    """An error of the ssl module with OpenSSL's symbol."""
    fault = ssl.SSLError(1, "secret text")
    if reason is not None:
        fault.reason = reason
    return fault


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (verification_error(9), "tls_certificate_error", "not valid yet"),
        (verification_error(10), "tls_certificate_error", "expired"),
        (verification_error(18), "tls_certificate_error", "self-signed"),
        (verification_error(19), "tls_certificate_error", "self-signed"),
        (verification_error(20), "tls_certificate_error", "issuer is not trusted"),
        (verification_error(62), "tls_certificate_error", "another host name"),
        (verification_error(64), "tls_certificate_error", "another IP address"),
        (verification_error(85), "tls_certificate_error", "RFC 5280"),
        (verification_error(50), "tls_certificate_error", "50"),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "tls_alert_received", "certificate required"),
        (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "tls_alert_received", "handshake failure"),
        (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), "tls_alert_received", "protocol version"),
        (ssl_error("TLSV1_UNRECOGNIZED_NAME"), "tls_alert_received", "unrecognized name"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), "tls_protocol_error", "no TLS version from 1.2"),
        (ssl_error("WRONG_VERSION_NUMBER"), "tls_protocol_error", "does not speak TLS"),
        (ssl_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), "tls_protocol_error", "failed"),
        (ssl_error(None), "tls_protocol_error", "failed"),
        (ConnectionResetError("secret text"), "tls_protocol_error", "closed the connection"),
    ],
    ids=lambda value: getattr(value, "reason", None) or repr(value)[:40] if isinstance(value, Exception) else "",
)
def test_a_failure_of_tls_is_told_in_our_own_words(fault: OSError, error: str, words: str) -> None:
    """Certificate, alert and protocol are told apart, and the library's text is left out."""
    problem = tls_problem(fault)
    assert (problem.code, problem.status, problem.error) == ("upstream_tls_failed", 502, error)
    assert words in problem.detail
    assert "secret" not in problem.detail
