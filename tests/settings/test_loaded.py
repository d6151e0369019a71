from sidekey.settings.config_errors import ConfigError
from sidekey.settings.loaded import Loaded


def error(file: str, line: int) -> ConfigError:
    return ConfigError(file, line, 1, "", "odd")


def test_findings_stand_in_the_order_of_their_places_and_once() -> None:
    """Those of what was kept as well."""
    found = [error("b", 1), error("a", 10), error("a", 2), error("b", 1)]
    loaded = Loaded(
        errors=found[:],
        warnings=found[:],
        unreadable=found[:],
        absent=found[:],
        unwritable=found[:],
        kept={"crm": found[:]},
    )
    loaded.sort()
    ordered = [error("a", 2), error("a", 10), error("b", 1)]
    assert [
        loaded.errors,
        loaded.warnings,
        loaded.unreadable,
        loaded.absent,
        loaded.unwritable,
        loaded.kept["crm"],
    ] == [ordered] * 6
