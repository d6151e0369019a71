"""Secrets in lists and mappings, edited at random: each opens only where it was entered for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.config.stored.document import Place, replaced
from sidekey.config.stored.rows import show_document
from sidekey.config.stored.validate import Draft
from support.stored import CANARY, SESSION, copied, former, ids, judged, opened, stored

SECRET = "a secret"
KEYS = st.sampled_from(["a", "b", "key", "name"])
ENTRIES = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["x", "y", SECRET]), "key": st.just(SECRET)}), min_size=2, max_size=3
)
TREES = st.recursive(
    st.sampled_from([SECRET, SECRET, "x", "y", 1]) | ENTRIES,
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=12,
)
URL = "https://ws.example.com/login"
URLS = st.sampled_from([URL, URL, URL, "https://evil.example.com/login"])


def document(tree: Any) -> Any:
    """A login with this body, in which each secret has a value of its own."""
    numbers = count()

    def entered(node: Any) -> Any:
        if node == SECRET:
            return {"value": f"{CANARY}-{next(numbers)}"}
        if isinstance(node, dict):
            return {key: entered(value) for key, value in node.items()}
        return [*map(entered, node)] if isinstance(node, list) else node

    found = copied(SESSION)
    found["auth"]["login"]["body"] = {"fixed": entered(SECRET), "tree": entered(tree)}
    return found


def is_secret(node: Any) -> bool:
    return isinstance(node, dict) and node.get("set") is True


def nodes(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of a document but what is in a secret."""
    yield place, node
    below = enumerate(node) if isinstance(node, list) else node.items() if isinstance(node, dict) else ()
    for key, value in () if is_secret(node) else below:
        yield from nodes(value, (*place, key))


def public(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: public(value) for key, value in node.items() if not is_secret(value)}
    return [public(each) for each in node if not is_secret(each)] if isinstance(node, list) else node


def homes(root: Any) -> dict[str, list[str]]:
    """Where each secret is, by ID: the keys, and for an entry of a list what is public in it."""
    found: dict[str, list[str]] = {}
    for place, node in nodes(root):
        if is_secret(node):
            way: list[Any] = []
            above = root
            for key in place:
                above = above[key]
                if isinstance(key, str):
                    way.append(key)
                elif above is not node:
                    way.append([public(above)])
            found.setdefault(node["id"], []).append(json.dumps(way, sort_keys=True))
    return {secret: sorted(ways) for secret, ways in found.items()}


def edited(data: st.DataObject, body: Any) -> Any:
    """The body after one edit: two values change places, one is copied over another, or goes, or is another."""
    every = [(place, node) for place, node in nodes(body) if place]
    secrets = [each for each in every if is_secret(each[1])]
    some = data.draw(st.sampled_from([every, secrets, secrets])) if secrets else every
    place, node = data.draw(st.sampled_from(some))
    other, with_it = data.draw(st.sampled_from(some))
    apart = place[: len(other)] != other and other[: len(place)] != place
    match data.draw(st.sampled_from(["swap", "swap", "copy", "remove", "change"])):
        case "swap" if apart:
            return replaced(body, {place: with_it, other: node})
        case "copy" if apart:
            return replaced(body, {place: with_it})
        case "remove" if len(place) > 1:
            rest = copied(body)
            above = rest
            for key in place[:-1]:
                above = above[key]
            del above[place[-1]]
            return rest
        case "change" if not isinstance(node, dict | list):
            return replaced(body, {place: "z"})
    return body


@settings(max_examples=200)
@given(data=st.data(), tree=ENTRIES | TREES, url=URLS, edits=st.integers(1, 2))
def test_a_secret_opens_only_where_it_was_entered_for(data: st.DataObject, tree: Any, url: str, edits: int) -> None:
    """Saving keeps that alone; nor does more open of a row that was edited past Sidekey, with a valid MAC."""
    row = stored(document(tree))
    values = {secret: opened(row).values[where] for where, secret in ids(row).items()}
    saved, read = json.loads(row.document), show_document(row)
    body = saved["integration"]["auth"]["login"]["body"]
    after = body
    for _ in range(edits):
        after = edited(data, after)
    for root in (saved["integration"], read):
        root["auth"]["login"] |= {"body": after, "url": url}
    past = replace(row, document=json.dumps(saved))
    before, now = homes(body), homes(after)
    # In a list, what is public beside a secret has a form of its own: it counts as the destination.
    same = destination_after(read, row) == destination_after(show_document(row), row)
    stay = {secret for secret in now if same and now[secret] == before[secret]}
    found = opened(past)
    assert found.values == {where: values[secret] for where, secret in ids(past).items() if secret in stay}
    once = all(len(ways) == 1 for ways in now.values())
    judgement = judged(read, former(row))
    assert (judgement.draft is not None) is (once and stay == now.keys())
    if judgement.draft is not None:
        assert opened(stored(read, before=row)).values == found.values
    else:
        assert (judgement.errors == ()) is once
        assert not isinstance(judgement, Draft)
    assert CANARY not in repr((judgement, found.refused))


def destination_after(read: Any, row: Any) -> Any:
    """The destination of a document in which every secret is entered again."""

    def again(node: Any) -> Any:
        if is_secret(node):
            return {"value": "x" * 40}
        if isinstance(node, dict):
            return {key: again(value) for key, value in node.items()}
        return [*map(again, node)] if isinstance(node, list) else node

    found = judged(again(read), former(row)).draft
    assert found is not None
    return found.purpose.destinations[0]
