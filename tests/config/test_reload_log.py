"""Log lines of a load."""

from __future__ import annotations

from structlog.testing import capture_logs

from sidekey.config.errors import ConfigError
from sidekey.config.load_result import Loaded, LocatedFinding, RetainedIntegration
from sidekey.config.reload import WARNINGS_SHOWN, log_errors, log_load

A = ConfigError("c.yaml", 3, 5, "integrations.a", "is odd")
B = ConfigError("c.yaml", 4, 5, "integrations.b", "is odd too")


def test_each_unreadable_file_is_an_error() -> None:
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(A, "unreadable"), LocatedFinding(B, "unreadable")]))
    assert [(line["log_level"], line["place"]) for line in lines] == [("error", str(A)), ("error", str(B))]


def test_each_preset_that_does_not_fit_its_integration_is_an_error() -> None:
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(A, "mismatched")]))
    assert [(line["log_level"], line["place"]) for line in lines] == [("error", str(A))]
    assert "preset" in lines[0]["event"]


def test_retained_integration_is_named() -> None:
    with capture_logs() as lines:
        log_load(Loaded(retained={"a": RetainedIntegration([A], ())}))
    assert [(line["log_level"], line["integration"], line["place"]) for line in lines] == [("error", "a", str(A))]


def test_first_20_warnings_are_logged() -> None:
    warnings = [ConfigError("c.yaml", line, 5, "integrations.a", "is odd") for line in range(3000)]
    with capture_logs() as lines:
        log_load(Loaded(findings=[LocatedFinding(warning, "warning") for warning in warnings]))
    assert {line["log_level"] for line in lines} == {"warning"}
    assert lines[0]["count"] == 3000
    assert [line["place"] for line in lines[1:]] == [str(warning) for warning in warnings[:WARNINGS_SHOWN]]


def test_every_error_of_an_unused_config_is_logged() -> None:
    with capture_logs() as lines:
        log_errors([A, B])
    assert lines[0]["count"] == 2
    assert [line["place"] for line in lines[1:]] == [str(A), str(B)]
    assert {line["log_level"] for line in lines} == {"error"}
