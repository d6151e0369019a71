"""Where log lines go, standard error or a file, and in which form."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import Literal

from sidekey.observe.text import Text

Format = Literal["auto", "json", "text"]
Render = Callable[[bytes], bytes]


class Output:
    """A descriptor that lines are written to, which it owns; `render` makes what is written of a line of JSON.

    `path` is set where it is a file that can be opened again. Whatever was opened and is not used closes by itself.
    """

    __slots__ = ("_format", "fd", "path", "render")

    def __init__(self, fd: int, path: str | None = None, format_: Format = "json") -> None:
        self.fd = fd
        self.path = path
        self._format = format_
        self.render = _render(fd, format_)

    def __del__(self) -> None:
        self.close()

    def reopened(self) -> Output:
        """The file that has its path now; itself where it has none. Raises OSError."""
        return self if self.path is None else open_file(self.path, self._format)

    def close(self) -> None:
        """Close it."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def open_standard_error(format_: Format) -> Output:
    """A duplicate of standard error, or nowhere where the process was started without one.

    Descriptor 2 itself is not written to: where it was closed, its number may now be that of a connection.
    """
    if sys.stderr is None:
        return Output(os.open(os.devnull, os.O_WRONLY))
    return Output(os.dup(sys.stderr.fileno()), None, format_)


def open_file(path: str, format_: Format) -> Output:
    """A file that lines are appended to; where there is none, it is made for its owner alone. Raises OSError."""
    # Without O_NONBLOCK, opening a pipe would wait for its reader.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    output = Output(fd, path, format_)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise OSError(errno.EINVAL, "not a regular file")
    return output


def _render(fd: int, format_: Format) -> Render | None:
    """What makes text of lines, where they are for people; None where they are written as they are."""
    on_terminal = os.isatty(fd)
    if format_ == "json" or (format_ == "auto" and not on_terminal):
        return None
    # https://no-color.org: whatever it says, as long as it is not empty.
    colours = on_terminal and not os.environ.get("NO_COLOR", "") and os.environ.get("TERM") != "dumb"
    return Text(colours=colours).render
