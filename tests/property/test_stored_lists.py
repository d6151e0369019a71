"""Secrets in lists and mappings open only at the entry that they were entered for, after random edits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.config.errors import Loc
from sidekey.config.stored.document import with_values
from sidekey.config.stored.rows import document_for_api
from sidekey.config.stored.validate import Draft
from support.stored import CANARY, SESSION, assessed, copied, ids, open_secrets, previous_row, stored

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
    """Build a login with this body, in which each secret has its own value."""
    numbers = count()

    def entered(node: Any) -> Any:
        if node == SECRET:
            return {"value": f"{CANARY}-{next(numbers)}"}
        if isinstance(node, dict):
            return {key: entered(value) for key, value in node.items()}
        return [*map(entered, node)] if isinstance(node, list) else node

    result = copied(SESSION)
    result["auth"]["login"]["body"] = {"fixed": entered(SECRET), "tree": entered(tree)}
    return result


def is_secret(node: Any) -> bool:
    return isinstance(node, dict) and node.get("set") is True


def nodes(node: Any, place: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """Yield every value of a document, except those within a secret."""
    yield place, node
    below = enumerate(node) if isinstance(node, list) else node.items() if isinstance(node, dict) else ()
    for key, value in () if is_secret(node) else below:
        yield from nodes(value, (*place, key))


def public(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: public(value) for key, value in node.items() if not is_secret(value)}
    return [public(item) for item in node if not is_secret(item)] if isinstance(node, list) else node


def homes(root: Any) -> dict[str, list[str]]:
    """Return the position of each secret by ID: its keys, and the public values of its list entry."""
    result: dict[str, list[str]] = {}
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
            result.setdefault(node["id"], []).append(json.dumps(way, sort_keys=True))
    return {secret: sorted(ways) for secret, ways in result.items()}


def edited(data: st.DataObject, body: Any) -> Any:
    """Edit the body once: swap two values, copy, remove or replace one."""
    every = [(place, node) for place, node in nodes(body) if place]
    secrets = [item for item in every if is_secret(item[1])]
    some = data.draw(st.sampled_from([every, secrets, secrets])) if secrets else every
    place, node = data.draw(st.sampled_from(some))
    other, with_it = data.draw(st.sampled_from(some))
    separate = place[: len(other)] != other and other[: len(place)] != place
    match data.draw(st.sampled_from(["swap", "swap", "copy", "remove", "change"])):
        case "swap" if separate:
            return with_values(body, {place: with_it, other: node})
        case "copy" if separate:
            return with_values(body, {place: with_it})
        case "remove" if len(place) > 1:
            rest = copied(body)
            above = rest
            for key in place[:-1]:
                above = above[key]
            del above[place[-1]]
            return rest
        case "change" if not isinstance(node, dict | list):
            return with_values(body, {place: "z"})
    return body


@settings(max_examples=200)
@given(data=st.data(), tree=ENTRIES | TREES, url=URLS, edits=st.integers(1, 2))
def test_secret_opens_only_where_it_was_entered(data: st.DataObject, tree: Any, url: str, edits: int) -> None:
    """Saving keeps exactly these secrets. A row that was edited past Sidekey with a valid MAC opens no more."""
    row = stored(document(tree))
    values = {secret: open_secrets(row).values[where] for where, secret in ids(row).items()}
    saved, read = json.loads(row.document), document_for_api(row)
    body = saved["integration"]["auth"]["login"]["body"]
    after = body
    for _ in range(edits):
        after = edited(data, after)
    for root in (saved["integration"], read):
        root["auth"]["login"] |= {"body": after, "url": url}
    past = replace(row, document=json.dumps(saved))
    before, now = homes(body), homes(after)
    # In a list, what is public beside a secret has a form of its own: it counts as the destination.
    same = destination_after(read, row) == destination_after(document_for_api(row), row)
    stay = {secret for secret in now if same and now[secret] == before[secret]}
    result = open_secrets(past)
    assert result.values == {where: values[secret] for where, secret in ids(past).items() if secret in stay}
    once = all(len(ways) == 1 for ways in now.values())
    judgement = assessed(read, previous_row(row))
    assert (judgement.draft is not None) is (once and stay == now.keys())
    if judgement.draft is not None:
        assert open_secrets(stored(read, before=row)).values == result.values
    else:
        assert (judgement.errors == ()) is once
        assert not isinstance(judgement, Draft)
    assert CANARY not in repr((judgement, result.refused))


def destination_after(read: Any, row: Any) -> Any:
    """Return the destination of a document in which all secrets are entered again."""

    def again(node: Any) -> Any:
        if is_secret(node):
            return {"value": "x" * 40}
        if isinstance(node, dict):
            return {key: again(value) for key, value in node.items()}
        return [*map(again, node)] if isinstance(node, list) else node

    result = assessed(again(read), previous_row(row)).draft
    assert result is not None
    return result.purpose.destinations[0]
