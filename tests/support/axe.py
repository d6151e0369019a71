"""axe, run in a page: what people who do not see, or not well, or use no mouse, would stumble over."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

LEVELS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_RUN: Final = """async (levels) => {
  // Its preloading fetches the stylesheet again, for a rule on turned screens that no style of ours concerns.
  const found = await axe.run(document, { runOnly: levels, resultTypes: ["violations"], preload: false });
  return found.violations.flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.html}`));
}"""


@cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


def violations(page: Any) -> list[str]:
    """What violates WCAG 2.2 AA in a page as it is now: the rule, and the element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    found: list[str] = page.evaluate(_RUN, list(LEVELS))
    return found
