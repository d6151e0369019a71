"""The bars."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from benchmarks.plot import WIDTH, Bar, Group, draw, say

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Group("a <fast> one", [Bar("ours", 2_000, "first"), Bar("theirs", 1_000)]),
    Group("none", [Bar("ours", 0, "second")]),
]


def drawn() -> ElementTree.Element:
    """The picture, parsed."""
    return ElementTree.fromstring(draw("Requests & more", GROUPS))


def test_bars_are_as_long_as_their_values_and_stay_inside() -> None:
    """All on one scale; nothing is too short to be seen."""
    bars = {bar.get("class"): int(bar.get("width", "0")) for bar in drawn().iter(f"{SVG}rect")}
    assert bars["first"] == 2 * bars["other"]
    assert bars["second"] == 1
    assert all(
        int(bar.get("x", "0")) + int(bar.get("width", "0")) < WIDTH
        for bar in drawn().iter(f"{SVG}rect")
        if bar.get("rx") == "2"
    )


def test_every_name_and_value_is_text() -> None:
    """Neither colour nor length must be read, and markup in a name does no harm."""
    texts = [text.text for text in drawn().iter(f"{SVG}text")]
    assert texts == ["Requests & more", "a <fast> one", "ours", "2,000", "theirs", "1,000", "none", "ours", "0"]


def test_nothing_is_below_the_panel() -> None:
    """The picture is as high as what is in it."""
    picture = drawn()
    lowest = max(int(text.get("y", "0")) for text in picture.iter(f"{SVG}text"))
    assert lowest < int(picture.get("height", "0"))


def test_the_picture_has_a_title_and_a_description() -> None:
    """For readers of the screen: as SVG's accessibility guide says."""
    picture = drawn()
    assert picture.get("role") == "img"
    named = picture.get("aria-labelledby", "").split()
    found = {element.get("id"): element.text for element in picture if element.get("id")}
    assert [found[name] for name in named] == ["Requests & more", say(GROUPS)]


def test_every_class_has_a_colour_for_light_and_dark_pages() -> None:
    """What is drawn stands out from the panel, which has its own background, in both."""
    text = draw("x", GROUPS)
    light, _, dark = text.partition("@media (prefers-color-scheme: dark)")
    for name in ("panel", "first", "second", "other"):
        colours = [re.search(rf"\.{name} {{ fill: (#[0-9a-f]{{6}})", part) for part in (light, dark)]
        assert all(colours), name
        assert len({found[1] for found in colours if found}) == 2


def test_a_picture_without_values_is_one() -> None:
    """Before anything was measured."""
    assert ElementTree.fromstring(draw("x", [])).tag == f"{SVG}svg"
