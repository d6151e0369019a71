"""Run axe in a page to find barriers for users with disabilities."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

LEVELS: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_STYLES: Final = """(() => {
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
  const found = new Map();
  for (const each of document.querySelectorAll("body, body *")) {
    const texts = [...each.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = (each.value || each.placeholder || texts.map((node) => node.data).join("")).trim();
    if (text === "" || !each.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(each);
    // Of one letter, what is switched off, a box to check, and what cannot be scrolled to, axe says nothing.
    if (text.length === 1 || each.closest(":disabled, [aria-disabled]") || each.control?.disabled) continue;
    const { right, bottom } = each.getBoundingClientRect();
    if (right + scrollX <= 0 || bottom + scrollY <= 0 || /^(checkbox|radio)$/.test(each.type)) continue;
    found.set(each, [color, fontSize, fontWeight, textShadow, all(each)].join(";"));
  }
  return found;
})()"""
"""JavaScript for the styles that decide contrasts: color, size and background of each text."""

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
"""JavaScript that finds a small target (WCAG 2.2, 2.5.8) with another one within 24 pixels."""

_RUN: Final = f"""async (how) => {{
  const styles = {_STYLES};
  const where = how.styles ? [...styles.keys()].filter((each) => how.styles.includes(styles.get(each))) : document;
  // Its preloading fetches the stylesheet again, for a rule on turned screens that no style of ours concerns.
  const found = await axe.run(where, {{ ...how.options, preload: false, selectors: false, elementRef: true }});
  const of = (results) => results.flatMap((each) => each.nodes.map((node) => [each.id, node]));
  return {{
    wrong: of(found.violations).map(([rule, node]) => `${{rule}}: ${{node.html}}`),
    judged: of(found.passes).map(([_, node]) => styles.get(node.element) ?? ""),
  }};
}}"""
"""JavaScript that returns the violations, and the styles of elements that pass."""

_MARKUP: Final = """() => document.body.outerHTML + [...document.body.querySelectorAll("*")].map((each) => {
  if (!each.checkVisibility({ visibilityProperty: true })) return 0;
  const scrolls = each.scrollHeight > each.clientHeight || each.scrollWidth > each.clientWidth;
  return scrolls && /auto|scroll/.test(getComputedStyle(each).overflow) ? 2 : 1;
}).join("")"""
"""JavaScript for the input of all other rules: the markup, and which elements are displayed or scroll."""

CONTRAST, SIZE = "color-contrast", "target-size"

_judged: Final[set[object]] = set()
"""The styles that were found right, those in markup where axe could not tell, and the markup without a violation."""


@cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


def violations(page: Any) -> list[str]:
    """Return the rules of WCAG 2.2 AA that a page violates, with the element, light and dark."""
    violations_found: list[str] = []
    markup = page.evaluate(_MARKUP)
    # Nothing but contrasts depends on colours; begun with those that the page has.
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    for scheme in ("dark", "light") if dark else ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        styles = page.evaluate(f"[...new Set({_STYLES}.values())]")
        new = {(style, markup) for style in styles if style not in _judged}
        if not new <= _judged:
            options = {"runOnly": [CONTRAST], "resultTypes": ["violations", "passes"]}
            wrong, judged = _run(page, options, [style for style, _ in new - _judged])
            violations_found += wrong
            # Of a text that is covered, or out of sight, axe says nothing: it may be in sight in another page.
            _judged.update(judged, () if wrong else new)
    if page.evaluate(_SMALL):
        violations_found += _run(page, {"runOnly": [SIZE], "resultTypes": ["violations"]})[0]
    if markup not in _judged:
        without = {CONTRAST: {"enabled": False}, SIZE: {"enabled": False}}
        wrong, _ = _run(page, {"runOnly": LEVELS, "rules": without, "resultTypes": ["violations"]})
        violations_found += wrong
        _judged.update([] if wrong else [markup])
    return violations_found


def _run(page: Any, options: dict[str, Any], styles: list[str] | None = None) -> tuple[list[str], list[str]]:
    """Return axe's violations, and the styles of elements that pass."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    result = page.evaluate(_RUN, {"options": options, "styles": styles})
    return result["wrong"], result["judged"]
