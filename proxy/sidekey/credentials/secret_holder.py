"""The base class of objects that hold secrets."""

from __future__ import annotations


class SecretHolder:
    """Holds a secret. It cannot be pickled, so no mistake copies it into a file, a queue or another process."""

    __slots__ = ()

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled")
