"""`openssl s_server` as an https upstream that requires a client certificate, and shows it on its status page."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from support import programs
from support.private_ca import Leaf
from support.raw_connection import DEADLINE

_ACCEPT = re.compile(r"^ACCEPT .*:(\d+)$", re.MULTILINE)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


class OpensslHttpsServer:
    """`with OpensslHttpsServer(tmp_path, leaf, clients=bundle) as server`: https on `server.port` of 127.0.0.1.

    Clients need a certificate issued by `clients`. Each GET gets a page (HTTP/1.0, `-www`) with the client's
    certificate, which `shown` reads. `version` is `tls1_2` or `tls1_3`.
    """

    def __init__(self, folder: Path, leaf: Leaf, *, clients: Path, version: str = "tls1_3") -> None:
        self._command = [programs.require("openssl"), "s_server", "-accept", "127.0.0.1:0", "-www", f"-{version}"]
        self._command += ["-cert", str(leaf.certificate), "-cert_chain", str(leaf.certificate), "-key", str(leaf.key)]
        self._command += ["-Verify", "2", "-verify_return_error", "-CAfile", str(clients)]
        self._log = folder / "s_server.log"
        self._process: subprocess.Popen[bytes]
        self.port = 0

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + DEADLINE
        while (match := _ACCEPT.search(self.output())) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"openssl s_server does not listen: {self.output()}")
            time.sleep(0.01)
        self.port = int(match[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def output(self) -> str:
        """Return the output so far: failed verifications and errors of OpenSSL."""
        return self._log.read_text(errors="replace")

    def wait_for_output(self, words: str) -> str:
        """Wait for these words, and return the output. OpenSSL logs a failure after it has sent the alert."""
        deadline = time.monotonic() + DEADLINE
        while words not in (output := self.output()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"openssl s_server wrote only: {output}")
            time.sleep(0.01)
        return output

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=DEADLINE)


def client_certificate_on(page: bytes) -> bytes:
    """Return the client's certificate on a page, in PEM, or an empty text."""
    match = _CERTIFICATE.search(page)
    return b"" if match is None else match[0]
