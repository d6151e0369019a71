"""aiohttp is imported without its client, and without what else nothing here uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

_LOOK = """
import json, mimetypes, os, pkgutil, sys
from importlib import import_module
before = dict(os.environ)
import sidekey.admin
for each in pkgutil.walk_packages(sidekey.admin.__path__, "sidekey.admin."):
    import_module(each.name)
found = {
    "client": sorted(name for name in sys.modules if name.startswith(("aiohttp.client", "aiohttp.connector"))),
    "types": len(mimetypes.types_map),
    "known": mimetypes.guess_type("x.svg")[0],
    "extension": "frozenlist._frozenlist" in sys.modules,
    "same": before == dict(os.environ),
}
import aiohttp
print(json.dumps({**found, "whole": aiohttp.ClientSession.__name__, "version": aiohttp.__version__}))
"""


@cache
def look(extensions: str | None) -> dict[str, Any]:
    """What the import of every module leaves in a process of its own."""
    environment = dict(os.environ)
    environment.pop("FROZENLIST_NO_EXTENSIONS", None)
    environment |= {} if extensions is None else {"FROZENLIST_NO_EXTENSIONS": extensions}
    result = subprocess.run([sys.executable, "-c", _LOOK], env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_an_extension_in_cpp_is_not_loaded() -> None:
    """Whatever the environment says, and it is afterwards what it was."""
    for extensions in (None, ""):
        found = look(extensions)
        assert found["extension"] is False
        assert found["same"] is True


def test_the_client_is_not_imported() -> None:
    """Neither by the API nor by the console; of its exceptions the server has its own. Whoever asks for it gets it."""
    found = look(None)
    assert found["client"] == ["aiohttp.client_exceptions"]
    assert found["whole"] == "ClientSession"
    assert found["version"]


def test_the_systems_types_of_files_are_not_read() -> None:
    """Debian's are more than 2,000; those that Python and aiohttp know themselves stay."""
    found = look(None)
    assert found["known"] == "image/svg+xml"
    assert found["types"] < 300
