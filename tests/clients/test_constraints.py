"""Name constraints of an operator's CA, as Java enforces them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidekey.ca import trust_folder
from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.operator_ca import check_operator_ca
from sidekey.ca.scope import Scope
from sidekey.network.tls_server import server_context
from support.local_cas import cert_manager_secret

HOST = "crm.example.com"


def accept(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Complete one handshake, and read to the end."""
    connection, _ = listener.accept()
    with connection:
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
        except OSError:
            # The client says why.
            return


@pytest.mark.parametrize(("host", "expected"), [(HOST, "trusted"), ("evil.example", "name constraints check failed")])
def test_java_enforces_the_constraints_of_an_intermediate(
    host: str, expected: str, tmp_path: Path, java: tuple[str, ...]
) -> None:
    """Java ignores those of a root. A CA below a root limits its key to its hosts for Java too."""
    secret, now = cert_manager_secret(HOST), time.time()
    own = check_operator_ca(secret["tls.crt"], secret["tls.key"], Scope(), now, secret["ca.crt"]).authority
    assert own is not None
    store = tmp_path / "truststore.p12"
    store.write_bytes(trust_folder.truststore(own.trusted))
    properties = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
    pem, _ = LeafSigner(own, create_key()).issue(host, now)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as serving:
        served = serving.submit(accept, listener, server_context(host, pem.encode()))
        command = [*java, *properties, "Handshake", str(listener.getsockname()[1]), host]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        served.result(60)
    assert expected in result.stdout
