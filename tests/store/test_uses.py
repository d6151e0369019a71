"""When rows were used last, on both databases."""

from __future__ import annotations

from support.stores import Place


async def test_the_last_use_counts(place: Place) -> None:
    async with place.open() as store:
        await store.note_use("a")
        await place.sql("UPDATE sidekey_uses SET at = 7")
        await store.note_use("b")
        assert (await store.last_uses())["a"] == 7
        await store.note_use("a")
        uses = await store.last_uses()
        assert set(uses) == {"a", "b"}
        assert min(uses.values()) > 1_700_000_000
