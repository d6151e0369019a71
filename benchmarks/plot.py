"""Bar charts as SVG: groups of labelled values on one scale, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
_MARGIN: Final = 20
_NAMES: Final = 130  # where bars begin
_VALUES: Final = 70  # kept free on the right of the longest bar
_BAR: Final = 14
_STEP: Final = 20
_HEADING: Final = 30

# The panel has a background of its own: whatever the page beneath it looks like, text and bars stand out from it.
_STYLE: Final = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.heading { font-weight: 600 }
.panel { fill: #ffffff; stroke: #d1d9e0 }
.first { fill: #0969da }
.second { fill: #6cb0f5 }
.other { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .panel { fill: #0d1117; stroke: #3d444d }
  .first { fill: #4493f8 }
  .second { fill: #1f5fae }
  .other { fill: #767d86 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value. `style` is `first`, `second` or `other`."""

    name: str
    value: float
    style: str = "other"


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one heading."""

    heading: str
    bars: Sequence[Bar]


def draw(title: str, groups: Sequence[Group]) -> str:
    """Draw the chart. Each value is also text beside its bar, so that readers need neither color nor length."""
    maximum = max((bar.value for group in groups for bar in group.bars), default=1.0)
    full = WIDTH - _NAMES - _VALUES - _MARGIN
    body, top = [f'<text class="title" x="{_MARGIN}" y="32">{escape(title)}</text>'], 44
    for group in groups:
        body.append(f'<text class="heading" x="{_MARGIN}" y="{top + 20}">{escape(group.heading)}</text>')
        top += _HEADING
        for bar in group.bars:
            length = max(1, round(full * bar.value / maximum))
            body += [
                f'<text x="{_MARGIN}" y="{top + 12}">{escape(bar.name)}</text>',
                f'<rect class="{bar.style}" x="{_NAMES}" y="{top}" width="{length}" height="{_BAR}" rx="2"/>',
                f'<text x="{_NAMES + length + 8}" y="{top + 12}">{bar.value:,.0f}</text>',
            ]
            top += _STEP
        top += 6
    height = top + 12
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
            ' role="img" aria-labelledby="title text">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="text">{escape(say(groups))}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
            *body,
            "</svg>\n",
        )
    )


def say(groups: Sequence[Group]) -> str:
    """Describe the chart in words."""
    return " ".join(
        f"{group.heading}: {', '.join(f'{bar.name} {bar.value:,.0f}' for bar in group.bars)}." for group in groups
    )
