"""What the results say of the Python that runs the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.machine import python_build


@pytest.mark.parametrize(
    ("configure", "said"),
    [
        pytest.param(
            "'--enable-shared' '--enable-optimizations' '--with-lto'",
            "--enable-optimizations --with-lto",
            id="PGO, LTO",
        ),
        pytest.param("'--enable-optimizations'", "--enable-optimizations", id="PGO"),
        pytest.param("'--enable-shared'", "no PGO", id="neither"),
    ],
)
def test_the_flags_that_optimise_an_interpreter_are_named(configure: str, said: str) -> None:
    """A build without PGO costs a microsecond a request."""
    assert python_build(configure, "/opt/python/bin/python3") == said
