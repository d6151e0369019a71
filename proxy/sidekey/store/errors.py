"""Why the store does not do what it was asked for. The texts name no secret and may be shown to operators."""

from __future__ import annotations


class StoreError(Exception):
    """The base of all of them.

    `public` is the text for readers whom nobody has authenticated, such as probes: it names no path.
    """

    def __init__(self, text: str, public: str = "") -> None:
        super().__init__(text)
        self.public = public or text


class StoreUnavailable(StoreError):
    """The database cannot be reached, is locked, or does not write because its disk is full. Trying again may help.

    Nothing has changed, unless the connection ended while the database was committing: then nobody knows, and a caller
    must read before writing again.
    """


class StoreUnusable(StoreUnavailable):
    """The database is damaged, foreign, or refuses what Sidekey needs. Only an operator can change that."""


class StoreRefused(StoreError):
    """The database, or the ring of keys for it, must not be used as it is; the text says what to do."""


class StoreDenied(StoreRefused):
    """The database user lacks a privilege for this statement. It may have those that other statements need."""


class Changed(StoreError):
    """Somebody else has written the row since the caller read it. `version` is the present one; 0: it is gone."""

    def __init__(self, id: str, version: int) -> None:  # noqa: A002  the word for it everywhere
        super().__init__(f"{id} has changed: its version is {version}" if version else f"{id} is gone")
        self.id = id
        self.version = version


class Exists(StoreError):
    """There is a row with this ID already."""

    def __init__(self, id: str) -> None:  # noqa: A002  as above
        super().__init__(f"{id} exists already")
        self.id = id
