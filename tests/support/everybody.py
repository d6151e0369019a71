"""What everybody needs of a page: who sees little, uses no mouse, or has a narrow screen."""

from __future__ import annotations

from typing import Final

from support.axe import violations
from support.browser import Tab

WIDTHS: Final = (360, 1280)
"""Widths of a telephone and of a desktop. No script reads the width, so resizing a page does as well as a new load."""

OPEN: Final = "for (const each of document.querySelectorAll('details')) each.open = true"

BARE: Final = """() => [...document.querySelectorAll("main .list td")].filter((cell) => {
  if (cell.innerText.trim() === "") return false;
  const label = getComputedStyle(cell, "::before").content.replaceAll('"', "");
  return ["none", ""].includes(label) && cell.querySelector("button, summary") === null && cell.colSpan === 1;
}).map((cell) => cell.outerHTML)"""
"""The cells of a list without a head that say nothing of what they are."""

COVERED: Final = """() => [
  ...document.querySelectorAll("main :is(a, button, input, select, textarea, summary)"),
].filter((each) => {
  if (each.disabled || !each.checkVisibility({ visibilityProperty: true })) return false;
  each.focus();
  each.scrollIntoView({ block: "nearest" });
  if (document.activeElement !== each) return false;
  const box = each.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + Math.min(box.width / 2, 20), box.y + box.height / 2);
  return top === null || !(each.contains(top) || top.contains(each));
}).map((each) => each.outerHTML.slice(0, 120))"""


def look(one: Tab, state: str) -> None:
    """Assert that nothing is wrong with a page as it is now: narrow and wide, light and dark."""
    for width in WIDTHS:
        one.resize(width)
        assert violations(one.page) == [], (state, width)
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width, (state, width)
        assert one.page.evaluate(COVERED) == [], (state, width)
        if width == min(WIDTHS):
            assert one.page.evaluate(BARE) == [], state
