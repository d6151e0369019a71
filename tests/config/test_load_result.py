from sidekey.config.errors import ConfigError
from sidekey.config.load_result import Loaded


def error(file: str, line: int) -> ConfigError:
    return ConfigError(file, line, 1, "", "odd")


def test_findings_are_sorted_and_unique() -> None:
    loaded = Loaded()
    loaded.add("unreadable", [error("b", 1), error("a", 10), error("b", 1)])
    loaded.add("error", [error("a", 2), error("b", 1)])
    loaded.add("warning", [error("a", 1)])
    loaded.sort()
    assert loaded.of("unreadable") == [error("a", 10), error("b", 1)]
    assert loaded.of("error", "unreadable") == [error("a", 2), error("a", 10), error("b", 1), error("b", 1)]
