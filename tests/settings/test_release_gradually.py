import weakref
from types import MappingProxyType

from sidekey.settings.config_errors import Table
from sidekey.settings.release_gradually import release_gradually


def test_a_dict_that_was_let_go_is_empty() -> None:
    """What only it held is gone."""
    values = {"a": {1}, "b": {2}}
    gone = weakref.ref(values["a"])
    release_gradually(values)
    assert values == {}
    assert gone() is None


def test_what_others_hold_stays() -> None:
    """Only the dict itself is emptied."""
    inner = Table("c.yaml", 0)
    inner["a"] = 1
    release_gradually({"x": inner})
    assert inner == {"a": 1}


def test_a_view_is_left_as_it_is() -> None:
    """It is not ours to empty."""
    values = {"a": 1}
    release_gradually(MappingProxyType(values))
    assert values == {"a": 1}
