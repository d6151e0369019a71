"""docs/metrics.md: outcomes, reasons, states and examples. tests/monitoring/test_scrape.py compares the families."""

from __future__ import annotations

import re
from pathlib import Path

from sidekey.errors import CALLER_GONE
from sidekey.observe.metrics import SEPARATE_STATUSES
from sidekey.snapshot.status import STATUSES
from support.prometheus import METRICS_PAGE, documented, examples_of, promtool

PAGE = METRICS_PAGE.read_text("utf-8")


def test_page_has_every_outcome_of_a_request() -> None:
    """Codes are on the page of errors."""
    section = PAGE.partition("\n## Outcomes\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    assert {"2xx", "3xx", "4xx", "5xx", *map(str, SEPARATE_STATUSES), CALLER_GONE} - named == set()


def test_page_has_every_status_of_an_integration() -> None:
    """The statuses have the order of the code."""
    meaning = documented()["sidekey_store_integrations"].meaning
    assert [word for word in re.findall(r"`(\w+)`", meaning) if word != "status"] == [*STATUSES]


def test_every_example_is_promql(tmp_path: Path) -> None:
    examples = examples_of(METRICS_PAGE)
    assert examples
    rules = "".join(f"      - {{record: 'example:{number}', expr: '{text}'}}\n" for number, text in enumerate(examples))
    path = tmp_path / "rules.yaml"
    path.write_text(f"groups:\n  - name: examples\n    rules:\n{rules}")
    result = promtool("check", "rules", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
