from sidekey.settings.faults import Fault
from sidekey.settings.loaded import Loaded


def fault(file: str, line: int) -> Fault:
    return Fault(file, line, 1, "", "odd")


def test_findings_stand_in_the_order_of_their_places_and_once() -> None:
    """Those of what was kept as well."""
    found = [fault("b", 1), fault("a", 10), fault("a", 2), fault("b", 1)]
    loaded = Loaded(faults=found[:], warnings=found[:], unreadable=found[:], kept={"crm": found[:]})
    loaded.sort()
    ordered = [fault("a", 2), fault("a", 10), fault("b", 1)]
    assert [loaded.faults, loaded.warnings, loaded.unreadable, loaded.kept["crm"]] == [ordered] * 4
