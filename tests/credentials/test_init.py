"""pydantic is imported without what would only find time zones."""

from __future__ import annotations

import subprocess
import sys

_LOOK = """
import os, sys
before = dict(os.environ)
import sidekey.cli.run, sidekey.cli.loading
import pydantic, zoneinfo
assert not [name for name in sys.modules if name.startswith("_sysconfigdata")]
assert zoneinfo.TZPATH == ()
assert before == dict(os.environ)
"""


def test_the_variables_of_pythons_build_are_not_loaded() -> None:
    """By whatever `sidekey run` imports first; some 1,000 texts that nothing reads."""
    subprocess.run([sys.executable, "-c", _LOOK], check=True)
