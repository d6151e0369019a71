"""axe, run in a page: what people who do not see, or not well, or use no mouse, would stumble over.

It is asked only where it could say anything new: of contrasts, which take most of its time, where a text has colours,
a background or a size that were not judged before, in whichever page; of the size of targets where one is so small, and
so near to another, that it could be missed; of all else where other parts of the same markup are displayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

LEVELS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_STYLES: Final = """() => {
  const looks = (each) => {
    const { backgroundColor, backgroundImage, opacity, position, zIndex, float, clip, clipPath, filter } =
      getComputedStyle(each);
    return [backgroundColor, backgroundImage, opacity, position, zIndex, float, clip, clipPath, filter].join(" ");
  };
  const behind = new Map([[null, ""]]);
  const all = (each) => {
    if (!behind.has(each)) {
      const [above, own] = [all(each.parentElement), looks(each)];
      behind.set(each, above.endsWith(`|${own}`) ? above : `${above}|${own}`);
    }
    return behind.get(each);
  };
  const found = new Set();
  for (const each of document.querySelectorAll("body, body *")) {
    const texts = [...each.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = (each.value || each.placeholder || texts.map((node) => node.data).join("")).trim();
    if (text === "" || !each.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(each);
    const off = each.closest(":disabled, [aria-disabled]") !== null || Boolean(each.control?.disabled);
    // Of one letter axe says nothing for sure.
    found.add([color, fontSize, fontWeight, textShadow, off, text.length > 1, all(each)].join(";"));
  }
  return [...found];
}"""
"""What contrasts depend on: the colour and size of each text, and what is behind it."""

_SMALL: Final = """() => {
  const targets = [...document.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")]
    .filter((each) => each.checkVisibility({ visibilityProperty: true }));
  const boxes = targets.map((each) => each.getBoundingClientRect());
  return boxes.some((small, at) => {
    if (small.width >= 24 && small.height >= 24) return false;
    const [x, y] = [small.x + small.width / 2, small.y + small.height / 2];
    return boxes.some((other, of) => {
      if (of === at || targets[of].contains(targets[at]) || targets[at].contains(targets[of])) return false;
      const [dx, dy] = [Math.max(other.left - x, 0, x - other.right), Math.max(other.top - y, 0, y - other.bottom)];
      return Math.hypot(dx, dy) < 24;
    });
  });
}"""
"""Whether a target that is small (WCAG 2.2, 2.5.8) has another within 24 pixels, so that circles could touch."""

_RUN: Final = """async (how) => {
  // Its preloading fetches the stylesheet again, for a rule on turned screens that no style of ours concerns.
  const found = await axe.run(document, { ...how, resultTypes: ["violations"], preload: false });
  return found.violations.flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.html}`));
}"""

_MARKUP: Final = """() => document.body.outerHTML + [...document.body.querySelectorAll("*")].map((each) => {
  if (!each.checkVisibility({ visibilityProperty: true })) return 0;
  const scrolls = each.scrollHeight > each.clientHeight || each.scrollWidth > each.clientWidth;
  return scrolls && /auto|scroll/.test(getComputedStyle(each).overflow) ? 2 : 1;
}).join("")"""
"""What all other rules depend on: the markup, and what of it is displayed, and scrolls."""

CONTRAST, SIZE = "color-contrast", "target-size"

_judged: Final[set[str]] = set()
"""The styles and the markup in which nothing was found."""


@cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


def violations(page: Any) -> list[str]:
    """What violates WCAG 2.2 AA in a page as it is now, light and dark: the rule, and the element."""
    found = []
    # Nothing but contrasts depends on colours.
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found += _run(page, {"runOnly": [CONTRAST]}, page.evaluate(_STYLES))
    if page.evaluate(_SMALL):
        found += _run(page, {"runOnly": [SIZE]})
    without = {CONTRAST: {"enabled": False}, SIZE: {"enabled": False}}
    return found + _run(page, {"runOnly": LEVELS, "rules": without}, [page.evaluate(_MARKUP)])


def _run(page: Any, how: dict[str, Any], of: Sequence[str] = ()) -> list[str]:
    """What axe finds, where not all of this was judged before."""
    if of and _judged.issuperset(of):
        return []
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    found: list[str] = page.evaluate(_RUN, how)
    if not found:
        _judged.update(of)
    return found
