"""What a forked Sidekey cannot show is refused, so that no test passes without its subject."""

from __future__ import annotations

import pytest

from support.child import run_cli


def test_a_variable_of_the_interpreter_is_refused() -> None:
    """It would have no effect: the interpreter has started before."""
    with pytest.raises(ValueError, match="PYTHONPROFILEIMPORTTIME"):
        run_cli("--version", environment={"PYTHONPROFILEIMPORTTIME": "1"})
