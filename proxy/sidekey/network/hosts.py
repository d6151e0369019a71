"""The hosts file (hosts(5)): names to addresses, read again whenever the file changes."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from sidekey.core.addresses import Address

Table = dict[str, tuple[Address, ...]]


class HostsFile:
    """Answers from one hosts file. One that is absent or cannot be read counts as empty, as for the C library."""

    def __init__(self, path: Path = Path("/etc/hosts")) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._table: Table = {}

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Look up a name (lower case): its addresses in the file's order, none where the file does not know it."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._table = parse_hosts(self._path.read_text("utf-8", "replace"))
                self._stamp = stamp
        except OSError:
            self._table, self._stamp = {}, None
        return self._table.get(name, ())


def parse_hosts(text: str) -> Table:
    """Read the lines `ADDRESS NAME...`; `#` begins a comment, and a line without an address is skipped.

    A name on several lines has all their addresses.
    """
    table: Table = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            parsed = ip_address(address)
        except ValueError:
            continue
        for name in map(str.lower, names):
            table[name] = tuple(dict.fromkeys((*table.get(name, ()), parsed)))
    return table
