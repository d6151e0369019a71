"""observe/printed.py: an error of printing is told from any other."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from sidekey.observe.printed import is_of_output


def test_an_error_is_of_the_output_where_click_has_raised_it() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        click.echo(b"text", file=full)
    assert is_of_output(caught.value)


def test_any_other_is_not() -> None:
    """Although it is one of the system, too."""
    with pytest.raises(FileNotFoundError) as caught:
        Path("/none/of/it").read_text()
    assert not is_of_output(caught.value)
