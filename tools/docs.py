"""Write config/schema.json and the reference pages of docs/ from the code: `make docs`."""

from __future__ import annotations

from pathlib import Path

from tools import api_page, config_pages, log_page

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    return {**config_pages.pages(), "docs/api.md": api_page.page(), "docs/logs.md": log_page.page()}


def main() -> None:
    """Write every generated file."""
    for name, text in pages().items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
