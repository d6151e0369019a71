"""The pip.conf of an image build: it takes packages from where this machine's pip takes them.

Prints what this machine says about its index, without what only it has, such as folders and constraint files. The build
sees the certificates it must trust as CERTIFICATES.

Usage: pip_conf.py CERTIFICATES
"""

from __future__ import annotations

import ast
import subprocess
import sys

KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries")


def settings(listed: str) -> dict[str, str]:
    """The settings among `pip config list` that a build needs; those of the environment win, as they do in pip."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: (line.startswith(":env:"), line)):
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:") and key in KEYS:
            found[key] = str(ast.literal_eval(value))
    return found


def main(certificates: str) -> None:
    """Print the file."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - pip itself
    lines = [f"{key} = {value}" for key, value in settings(listed).items()]
    sys.stdout.write("\n".join(["[global]", f"cert = {certificates}", *lines, ""]))


if __name__ == "__main__":
    main(sys.argv[1])
