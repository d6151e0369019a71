"""api/models.py: pages of lists, and names of altered rows."""

from __future__ import annotations

from sidekey.api.models import PAGE_SIZE, altered_headers, build_page, sort_keys
from sidekey.store.integrity import RowHeader, VerifiedRow
from sidekey.store.state import State


def test_next_is_the_last_key_of_the_page() -> None:
    """None on the last page. A page may end between the two resources of one name."""
    names = [f"n{number:03}" for number in range(PAGE_SIZE // 2 + 1)]

    def page(after: str) -> tuple[list[str], str | None]:
        return build_page(sort_keys(names, names), after, lambda key: ":".join(key) if key.name != "n000" else None)

    first, following = page("")
    assert (len(first), first[:2], following) == (PAGE_SIZE, ["n001:file", "n001:store"], None)
    names.append("n999")
    first, following = page("")
    assert (len(first), following) == (PAGE_SIZE, "n025:store")
    assert page("n025:store") == (["n999:file", "n999:store"], None)
    assert page("n999:file") == (["n999:store"], None)
    assert build_page([], "", str) == ([], None)


def test_altered_rows_with_invalid_names_or_of_other_kinds_are_omitted() -> None:
    """Another program may have written anything into the database."""
    lines = [
        RowHeader("caller", "r1", "billing", 3, "k1", "", 1),
        RowHeader("caller", "r2", "Not a name", 1, "k1", "", 1),
    ]
    lines.append(RowHeader("token", "r3", "ann", 1, "k1", "", 1))
    rows = {line.name: VerifiedRow(line, None, verified=False) for line in lines}
    state = State(rows=rows, altered=frozenset((line.kind, line.id) for line in lines))
    assert altered_headers(state, "caller") == {"billing": lines[0]}
    assert altered_headers(State(rows=rows), "caller") == {}
