"""aiohttp is imported without what only its client needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import certifi

_LOOK = """
import json, mimetypes, os, ssl, sys
before = dict(os.environ)
import sidekey.admin
import aiohttp.connector
contexts = [each for each in vars(aiohttp.connector).values() if isinstance(each, ssl.SSLContext)]
print(json.dumps({
    "contexts": [each.cert_store_stats()["x509"] for each in contexts],
    "types": len(mimetypes.types_map),
    "known": mimetypes.guess_type("x.svg")[0],
    "extension": "frozenlist._frozenlist" in sys.modules,
    "same": before == dict(os.environ),
}))
"""


def look(environment: dict[str, str]) -> dict[str, object]:
    """What the import leaves in a process of its own."""
    given = {name: value for name, value in os.environ.items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    result = subprocess.run([sys.executable, "-c", _LOOK], env=given | environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_neither_the_systems_cas_nor_an_extension_in_cpp_is_loaded() -> None:
    """Whatever names the system's CAs, and the environment is afterwards what it was."""
    for environment in ({}, {"SSL_CERT_FILE": certifi.where()}, {"FROZENLIST_NO_EXTENSIONS": ""}):
        found = look(environment)
        assert found["contexts"]
        assert not any(found["contexts"]), found
        assert found["extension"] is False
        assert found["same"] is True


def test_the_systems_types_of_files_are_not_read() -> None:
    """Debian's are more than 2,000; those that Python and aiohttp know themselves stay."""
    found = look({})
    assert found["known"] == "image/svg+xml"
    assert isinstance(found["types"], int)
    assert found["types"] < 300
