"""`openssl s_server` as an https upstream that demands a client certificate: its page of state holds what it saw."""

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


class OpensslServer:
    """`with OpensslServer(tmp_path, leaf, clients=bundle) as server`: https on `server.port` of 127.0.0.1.

    Clients need a certificate that leads to `clients`. Every GET is answered with a page (HTTP/1.0, `-www`) that shows
    the client's certificate: `shown` reads it. `version` is `tls1_2` or `tls1_3`.
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
        while (found := _ACCEPT.search(self.said())) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"openssl s_server does not listen: {self.said()}")
            time.sleep(0.01)
        self.port = int(found[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def said(self) -> str:
        """Everything it wrote so far: a verification that failed, errors of OpenSSL."""
        return self._log.read_text(errors="replace")

    def until_said(self, words: str) -> str:
        """Everything it wrote once these words are there: it speaks of a failure after its alert was sent."""
        deadline = time.monotonic() + DEADLINE
        while words not in (said := self.said()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"openssl s_server said only: {said}")
            time.sleep(0.01)
        return said

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=DEADLINE)


def shown(page: bytes) -> bytes:
    """The client's certificate in PEM as a page shows it; empty where the server saw none."""
    found = _CERTIFICATE.search(page)
    return b"" if found is None else found[0]
