"""What files hide of a store. What becomes of it in a process is in tests/test_managed.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.settings.stored.hiding import Hiding
from sidekey.store.records import DocumentRow, IntegrationRow, PresetRow


@pytest.mark.parametrize(
    ("row", "word"),
    [(IntegrationRow(row="1", id="x"), "an integration"), (PresetRow(row="1", id="x"), "a preset")],
    ids=lambda each: getattr(each, "kind", ""),
)
def test_what_a_file_has_hidden_stays_so_until_it_is_released(row: DocumentRow, word: str) -> None:
    """Also once the file's is gone, and whether or not the row says so yet."""
    hiding = Hiding()
    assert (hiding.judge(row, ()), hiding.is_unsaid(row, ())) == (None, False)
    found = hiding.judge(row, {"x"})
    assert found == ("hidden", f"a file has {word} of this ID, which is served instead")
    assert hiding.is_unsaid(row, {"x"})
    # A load that was not put in use says nothing about the next one.
    assert hiding.judge(row, ()) is None
    hiding.note([row])
    gone = hiding.judge(row, ())
    assert gone == ("hidden", f"a file had {word} of this ID: release this one to serve it")
    assert hiding.is_unsaid(row, ())
    said = replace(row, hidden=True)
    hiding.take([said])
    assert (hiding.judge(said, ()), hiding.is_unsaid(said, ())) == (gone, False)
    # Whoever released it, here or in another process.
    assert hiding.judge(row, ()) is None


def test_a_row_is_released_here_before_it_said_that_it_is_hidden() -> None:
    """Then nothing is to be written."""
    row, hiding = PresetRow(row="1", id="x"), Hiding()
    hiding.note([row])
    assert hiding.has_hidden(row)
    assert hiding.marked(row)
    assert (hiding.marked(row), hiding.has_hidden(row), hiding.judge(row, ())) == (False, False, None)


def test_nothing_is_written_into_an_altered_row() -> None:
    """It would count again."""
    row = PresetRow(row="1", id="x", state="altered")
    assert not Hiding().is_unsaid(row, {"x"})


def test_a_row_of_another_making_is_not_hidden() -> None:
    """It is known by its lasting ID: deleted and made again, it is another."""
    hiding = Hiding()
    hiding.note([PresetRow(row="1", id="x")])
    assert hiding.judge(PresetRow(row="2", id="x"), ()) is None
