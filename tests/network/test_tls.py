"""TLS contexts for upstreams, and the problems of TLS failures."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sidekey.ca.authorities import LocalAuthority
from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.trust_folder import bundle
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import ProblemError
from sidekey.network import public_roots
from sidekey.network.dial import Dialer
from sidekey.network.tls import ChainDenied, TlsContexts, client_certificate_refused, client_context, tls_problem
from sidekey.network.tls_server import server_context
from sidekey.network.tls_sessions import Sessions
from sidekey.snapshot.snapshot import NetworkRules, Snapshot, Trust
from support.certificates import IssuedCertificate, issue
from support.local_cas import authority_of, rules_in
from support.private_ca import Authority, file_trust
from support.tls_peer import ScriptedTlsServer, handshake


@pytest.mark.parametrize("trust", [Trust(), Trust("system"), Trust("file", "FILE")], ids=lambda trust: trust.source)
def test_every_context_verifies_and_needs_tls_1_2(trust: Trust, ca: Authority) -> None:
    """RFC 8996."""
    context = client_context(ca.trust if trust.path else trust)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_default_trust_has_public_authorities() -> None:
    assert len(client_context(Trust()).get_ca_certs()) > 50


def identity(ca: Authority, name: str) -> ClientIdentity:
    """Build a client certificate for a name."""
    leaf = ca.leaf(f"{name}@clients.test")
    return ClientIdentity(leaf.certificate.read_bytes(), leaf.key.read_bytes(), name, 0.0, 0.0, name, "test CA")


def test_ca_file_replaces_the_public_authorities(ca: Authority) -> None:
    assert len(client_context(ca.trust).get_ca_certs()) == 1


def test_session_keys_are_never_written(ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$SSLKEYLOGFILE would let its reader decrypt the credentials."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert client_context(ca.trust).keylog_filename is None
    assert not (tmp_path / "keys").exists()


def test_equal_trust_shares_a_context(ca: Authority) -> None:
    """Ten thousand integrations with equal trust need one bundle."""
    contexts = TlsContexts()
    first = contexts.get(ca.trust)
    assert contexts.get(ca.trust) is first
    assert contexts.get(Trust("system")) is not first


def test_client_certificate_has_its_own_context_while_in_use(ca: Authority) -> None:
    """Contexts of rotated certificates are freed."""
    contexts, trust = TlsContexts(), ca.trust
    plain = contexts.get(trust)
    alice, bob = (contexts.get(trust, identity(ca, name)) for name in ("alice", "bob"))
    assert len({plain, alice, bob}) == 3
    assert contexts.get(trust, identity(ca, "alice")) is alice
    assert contexts.get(Trust("system"), identity(ca, "alice")) is not alice
    gone = weakref.ref(alice)
    sessions = Sessions()
    sessions.offer(alice)
    del alice
    assert gone() is not None
    del sessions
    assert gone() is None
    assert contexts.get(trust) is plain


def test_context_of_an_unusable_certificate_is_not_kept(ca: Authority) -> None:
    contexts, trust = TlsContexts(), ca.trust
    good = identity(ca, "alice")
    for _ in range(2):
        with pytest.raises(ProblemError, match="credential_unavailable"):
            contexts.get(trust, replace(good, key=b"no key"))
    assert contexts.get(trust, good)


def test_public_authorities_are_read_during_verification() -> None:
    """The context has the folder, and no certificate of it."""
    context = TlsContexts().get(Trust())
    assert context.get_ca_certs() == []
    assert public_roots.mozilla_folder() is not None


def test_new_folder_is_used_from_the_next_connection(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = public_roots.CaFolder(str(ca.bundle))
    monkeypatch.setattr(public_roots, "_mozilla", folder)
    monkeypatch.setattr(public_roots, "_PARENTS", (str(tmp_path),))
    contexts = TlsContexts()
    first = contexts.get(Trust())
    shutil.rmtree(next(tmp_path.iterdir()))
    second = contexts.get(Trust())
    assert second is not first
    assert contexts.get(Trust()) is second
    handshake(second, ca.server_context("up.test"))
    folder.remove()


def test_bare_end_of_tcp_is_not_close_notify(ca: Authority) -> None:
    """On every Python: a cut response never looks complete (RFC 8446 6.1)."""

    def cut(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"half")
        socket.socket(fileno=tls.detach()).close()

    with (
        ScriptedTlsServer(ca.server_context("up.test"), cut) as peer,
        socket.create_connection(("127.0.0.1", peer.port)) as tcp,
    ):
        context = client_context(ca.trust)
        with context.wrap_socket(tcp, server_hostname="up.test", suppress_ragged_eofs=False) as tls:
            assert tls.recv(4) == b"half"
            with pytest.raises(ssl.SSLError, match="UNEXPECTED_EOF"):
                tls.recv(4)


def test_private_ca_need_not_pass_strict_verification(tmp_path: Path) -> None:
    """On every Python: `ssl.create_default_context` is strict since 3.13."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("old CA", "up.test")]
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    now = datetime.now(UTC)
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    for name, key, extension in zip(
        names, keys, (constraints, x509.SubjectAlternativeName([x509.DNSName("up.test")])), strict=True
    ):
        # Neither key usage nor authority key identifier.
        builder = x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        signed = builder.add_extension(extension, critical=extension is constraints).sign(keys[0], SHA256())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name.rfc4514_string()}.pem").write_bytes(signed.public_bytes(Encoding.PEM) + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "CN=up.test.pem")
    context = client_context(file_trust(tmp_path / "CN=old CA.pem"))
    handshake(context, server)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(context, server)
    assert "breaks a rule of RFC 5280" in tls_problem(refused.value).detail


def test_unreadable_ca_file_is_a_problem(tmp_path: Path, ca: Authority) -> None:
    """It names `trusted_ca` and not the path. Only a reload reads the file again."""
    contexts, path = TlsContexts(), tmp_path / "ca.pem"
    path.write_bytes(ca.bundle.read_bytes())
    with pytest.raises(ProblemError) as failed:
        contexts.get(Trust("file", str(path)))
    problem = failed.value.problem
    assert (problem.code, problem.error) == ("credential_unavailable", "proxy_configuration_error")
    assert "trusted_ca" in problem.detail
    assert str(tmp_path) not in problem.detail


def test_context_uses_the_content_of_its_trust(tmp_path: Path, ca: Authority) -> None:
    """New content is a new trust with a new context."""
    path = tmp_path / "ca.pem"
    path.write_bytes(ca.bundle.read_bytes())
    before = file_trust(path)
    contexts = TlsContexts()
    first = contexts.get(before)
    (tmp_path / "other").mkdir()
    path.write_bytes(Authority(tmp_path / "other").bundle.read_bytes())
    after = file_trust(path)
    assert after != before
    assert contexts.get(before) is first
    assert contexts.get(after).get_ca_certs() != first.get_ca_certs()


def test_context_of_a_ca_file_is_freed_with_its_trust(tmp_path: Path, ca: Authority) -> None:
    contexts, trust = TlsContexts(), file_trust(ca.bundle)
    gone = weakref.ref(contexts.get(trust))
    assert gone() is not None
    del trust
    assert gone() is None


def verification_error(code: int) -> ssl.SSLCertVerificationError:
    """Build OpenSSL's error, with a text that must not be shown."""
    error = ssl.SSLCertVerificationError(1, "secret text")
    error.verify_code = code
    return error


def ssl_error(reason: str | None) -> ssl.SSLError:
    """Build an error of the ssl module with OpenSSL's symbol."""
    error = ssl.SSLError(1, "secret text")
    if reason is not None:
        error.reason = reason
    return error


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (verification_error(9), "tls_certificate_error", "not valid yet"),
        (verification_error(10), "tls_certificate_error", "expired"),
        (verification_error(18), "tls_certificate_error", "self-signed"),
        (verification_error(19), "tls_certificate_error", "self-signed"),
        (verification_error(20), "tls_certificate_error", "issuer is not trusted"),
        (verification_error(62), "tls_certificate_error", "another host name"),
        (verification_error(64), "tls_certificate_error", "another IP address"),
        (verification_error(85), "tls_certificate_error", "RFC 5280 that strict verification checks, as Python 3.13"),
        (verification_error(50), "tls_certificate_error", "50"),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "tls_alert_received", "certificate required"),
        (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "tls_alert_received", "handshake failure"),
        (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), "tls_alert_received", "protocol version"),
        (ssl_error("TLSV1_UNRECOGNIZED_NAME"), "tls_alert_received", "unrecognized name"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), "tls_protocol_error", "does not support TLS 1.2 or newer"),
        (ssl_error("WRONG_VERSION_NUMBER"), "tls_protocol_error", "does not speak TLS"),
        (ssl_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), "tls_protocol_error", "failed"),
        (ssl_error(None), "tls_protocol_error", "failed"),
        (ConnectionResetError("secret text"), "tls_protocol_error", "closed the connection"),
    ],
    ids=lambda value: getattr(value, "reason", None) or repr(value)[:40] if isinstance(value, Exception) else "",
)
def test_tls_problem_omits_the_librarys_text(raised: OSError, error: str, words: str) -> None:
    """Certificate, alert and protocol errors differ."""
    problem = tls_problem(raised)
    assert (problem.code, problem.status, problem.error) == ("upstream_tls_failed", 502, error)
    assert words in problem.detail
    assert "secret" not in problem.detail


def test_cut_after_the_client_certificate_is_a_tls_problem() -> None:
    """Some servers reject it without an alert."""
    problem = client_certificate_refused()
    assert (problem.code, problem.status, problem.error) == ("upstream_tls_failed", 502, "tls_protocol_error")
    assert "reject the client certificate" in problem.detail


def local_server(host: str) -> tuple[LocalAuthority, ssl.SSLContext]:
    """Yield a local CA and a server with its certificate."""
    authority = authority_of(f"https://{host}", now=time.time())
    pem, _ = LeafSigner(authority, create_key()).issue(host, time.time())
    return authority, server_context(host, pem.encode())


@pytest.mark.parametrize("where", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_local_ca_is_never_trusted_for_upstreams(
    where: str, ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even in the system's store: its key could impersonate every upstream."""
    authority, server = local_server("up.test")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.trusted + ca.bundle.read_text())
    for item in bundle.read_text().split("-----END CERTIFICATE-----\n")[:-1]:
        pem = f"{item}-----END CERTIFICATE-----\n"
        (tmp_path / f"{public_roots.subject_hash(ssl.PEM_cert_to_DER_cert(pem.lstrip()))}.0").write_text(pem)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv(where, str(bundle if where == "SSL_CERT_FILE" else tmp_path))
    careless = ssl.create_default_context()
    handshake(careless, server)
    ours = TlsContexts().get(Trust("system"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ours, server)
    handshake(ours, ca.server_context("up.test"))


def test_broken_certificate_in_the_system_store_is_skipped(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ssl.DER_cert_to_PEM_cert(b"\x30\x03\x02\x01\x00")
    (tmp_path / "0a1b2c3d.0").write_text(broken)
    (tmp_path / "1a1b2c3d.0").write_text(ca.bundle.read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    context = client_context(Trust("system"))
    assert context.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(ca.bundle.read_text())]


def test_local_ca_is_not_in_mozillas_folder(ca: Authority, tmp_path: Path) -> None:
    """Distributions replace certifi's bundle with the system's store."""
    authority, server = local_server("up.test")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(authority.trusted + ca.bundle.read_text())
    folder = public_roots.CaFolder(str(bundle))
    context = client_context(Trust(), folder.path())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, server)
    handshake(context, ca.server_context("up.test"))
    folder.remove()


def operators(*, again: bool = False) -> tuple[IssuedCertificate, IssuedCertificate, ssl.SSLContext]:
    """An operator's root, an intermediate CA for callers, and a certificate of up.test with that CA's key.

    With `again`, the server presents a second certificate of the key, with another name and serial number.
    """
    start, life = datetime.now(UTC) - timedelta(days=1), timedelta(days=30)
    root = issue("Corporate root", authority=True, start=start, life=life)
    own = issue("Sidekey at corporate", root, authority=True, start=start, life=life)
    shown = issue("Former name", root, key=own.key, authority=True, start=start, life=life) if again else own
    posing = LeafSigner(
        LocalAuthority(1, (), 0, "", shown.pem.decode(), own.key_pem.decode(), "", served=shown.pem.decode()),
        create_key(),
    )
    pem, _ = posing.issue("up.test", time.time())
    return root, own, server_context("up.test", pem.encode())


def trust_in(root: IssuedCertificate, folder: Path) -> Trust:
    """Return the trust in a file with this certificate."""
    (folder / "root.pem").write_bytes(root.pem)
    return file_trust(folder / "root.pem")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("again", [False, True])
def test_chain_with_a_denied_key_is_refused(tmp_path: Path, version: ssl.TLSVersion, *, again: bool) -> None:
    """Also in existing contexts, until the key is no longer denied."""
    root, own, server = operators(again=again)
    server.maximum_version = version
    contexts, trust = TlsContexts(), trust_in(root, tmp_path)
    handshake(contexts.get(trust), server)
    contexts.deny(frozenset({public_key(own.der)}))
    with pytest.raises(ChainDenied) as raised:
        handshake(contexts.get(trust), server)
    assert "which signs for callers" in tls_problem(raised.value).detail
    assert tls_problem(raised.value).error == "tls_certificate_error"
    contexts.deny(frozenset())
    handshake(contexts.get(trust), server)


def test_other_chain_of_the_same_root_is_accepted(tmp_path: Path) -> None:
    root, own, _ = operators()
    start = datetime.now(UTC) - timedelta(days=1)
    other = issue("Other CA", root, authority=True, start=start, life=timedelta(days=30))
    authority = LocalAuthority(1, (), 0, "", other.pem.decode(), other.key_pem.decode(), "", served=other.pem.decode())
    pem, _ = LeafSigner(authority, create_key()).issue("up.test", time.time())
    contexts = TlsContexts()
    contexts.deny(frozenset({public_key(own.der)}))
    handshake(contexts.get(trust_in(root, tmp_path)), server_context("up.test", pem.encode()))


def test_denied_root_is_refused_in_every_store(ca: Authority, tmp_path: Path) -> None:
    contexts, server = TlsContexts(), ca.server_context("up.test")
    contexts.deny(frozenset({public_key(ssl.PEM_cert_to_DER_cert(ca.bundle.read_text()))}))
    with pytest.raises(ChainDenied):
        handshake(contexts.get(ca.trust), server)


def test_system_store_with_the_operators_root_verifies_upstreams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, own, server = operators()
    (tmp_path / "bundle.pem").write_text(bundle(root.pem.decode()))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    contexts = TlsContexts()
    handshake(contexts.get(Trust("system")), server)
    contexts.deny(frozenset({public_key(own.der)}))
    with pytest.raises(ChainDenied):
        handshake(contexts.get(Trust("system")), server)


def test_dialer_denies_the_configured_ca_that_signs_for_callers(tmp_path: Path) -> None:
    """Until another config is applied."""
    own, _ = local_server("up.test")
    dialer = Dialer(NetworkRules())
    dialer.prepare(Snapshot({}, ca=rules_in(tmp_path, uses_operator_ca=True, operator_ca=own)))()
    assert dialer._contexts._denied == {public_key(ssl.PEM_cert_to_DER_cert(own.certificate))}
    dialer.prepare(Snapshot({}))()
    assert dialer._contexts._denied == frozenset()
