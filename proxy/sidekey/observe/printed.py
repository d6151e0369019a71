"""What becomes of text that a command prints: an error there is none of the program."""

from __future__ import annotations

from traceback import walk_tb

import click


def is_of_output(error: OSError) -> bool:
    """Whether it was raised where commands print, as on a disk that is full, and so is of nothing else."""
    *_, (innermost, _) = walk_tb(error.__traceback__)
    return innermost.f_code is click.echo.__code__
