"""One request ahead of every measurement: it is answered, and the upstream received the credential exactly once."""

from __future__ import annotations

import time
from base64 import b64encode
from http.client import HTTPConnection, HTTPException

from benchmarks.processes import MeasureFailed, Program

USER, PASSWORD = "bench", "not-a-secret"
AUTHORIZATION = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CHECK = "check"
"""The path, below the base, at which every upstream answers what it received as Authorization."""


def await_answer(program: Program, port: int, path: str, headers: dict[str, str], limit: float = 30.0) -> None:
    """Ask the check path until the upstream has received exactly the one credential.

    Raises MeasureFailed where the program ends, where it answers with another credential, and after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    seen = "it does not listen"
    while time.monotonic() < deadline:
        program.check_alive()
        try:
            status, text = _ask(port, path, headers)
        except (OSError, HTTPException):
            time.sleep(0.001)
            continue
        if status == 200:
            if text != AUTHORIZATION:
                raise MeasureFailed("the upstream did not receive exactly one Authorization header with the credential")
            return
        # A proxy may listen before its upstream is known to it.
        seen = f"it answers {status}: {text[:300]}"
        time.sleep(0.001)
    raise MeasureFailed(f"no answer of the upstream within {limit:g} s: {seen}")


def _ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, b"{}", headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("latin-1")
    finally:
        connection.close()
