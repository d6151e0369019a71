"""support/prometheus.py: what an expression is taken apart into."""

from __future__ import annotations

import pytest

from support.prometheus import expressions_of, metrics_of, series_of, values_of


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (namespace, le) (rate(a_bucket{job=~"$job|up"}[5m]))', {"a_bucket"}),
        ("a:b:c > 0 unless on (job) (d offset 5m or e >= time() - 300)", {"a:b:c", "d", "e"}),
        ("topk(10, a / on (x) group_left (kind) b) and c{d='e'} == bool 0", {"a", "b", "c"}),
        ("max_over_time(a:b[2h] offset 23h) * 1e3", {"a:b"}),
    ],
)
def test_the_metrics_of_an_expression_are_neither_labels_nor_functions(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names


def test_the_alternatives_of_a_pattern_are_values_each() -> None:
    assert values_of('a{outcome=~"x|y", other="z"} / a{outcome!="ok"}', "outcome") == {"x", "y", "ok"}


def test_variables_of_a_dashboard_are_filled_in() -> None:
    dashboard = {
        "templating": {"list": [{"name": "job", "allValue": ".*"}]},
        "panels": [{}, {"targets": [{"expr": 'rate(a{job=~"$job"}[$__rate_interval])'}]}],
        "annotations": {"list": [{}]},
    }
    assert list(expressions_of(dashboard)) == ['rate(a{job=~".*"}[5m])']


def test_a_counter_grows_and_a_gauge_stays() -> None:
    page = '# TYPE a_total counter\na_total{b="c"} 2.0\n# TYPE d gauge\nd 5.0\n'
    assert [line["values"] for line in series_of(page)] == ["2.000000+2x60", "5.000000+0x60"]
