"""Entries of files with several secrets."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.file_entries import find_entry
from sidekey.credentials.fields import FileEntry

SECRET = "hunter2"


def reason_of(entry: FileEntry, text: str) -> str:
    """Return why an entry has no value. It must not show a value."""
    with pytest.raises(ValueError, match=r".") as caught:
        find_entry(entry, text)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_json_member_is_the_value(document: dict[str, str]) -> None:
    for key, value in document.items():
        assert find_entry(FileEntry("json", key), json.dumps(document)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{SECRET}", "must be JSON"),
        (f'["{SECRET}"]', "must be a JSON object"),
        (f'{{"other": "{SECRET}"}}', "has no member with the name in `key`"),
        ('{"key": 1}', "must have a text as the member in `key`"),
        (f'{{"key": {{"key": "{SECRET}"}}}}', "must have a text as the member in `key`"),
        (f'{{"key": "{SECRET}", "key": "x"}}', "has a JSON object with two members of the same name"),
    ],
)
def test_unusable_json_has_a_reason(text: str, reason: str) -> None:
    assert reason_of(FileEntry("json", "key"), text) == reason


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=abc", "abc"),
        ("KEY=", ""),
        ("export KEY=a=b/c+d:e", "a=b/c+d:e"),
        ("  KEY=abc  ", "abc"),
        ("KEY='a $b \\n #c \"d\"'", 'a $b \\n #c "d"'),
        ('KEY="a b#c"', "a b#c"),
        ("KEY=abc\r\n", "abc"),
        ('# KEY=no\n\nKEY=abc\nOTHER="$x `y` \\"z" # c\nMORE=\'$\'\n', "abc"),
    ],
)
def test_dotenv_variable_is_the_value(line: str, value: str) -> None:
    assert find_entry(FileEntry("dotenv", "KEY"), line) == value


AMBIGUOUS = (
    "line 1 has a value with a quote, blank, #, $, ` or \\: "
    "put it between single quotes, because programs read it in different ways"
)
OPEN = "line 1 has a quote that does not end, or is not at the beginning of the value"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"OTHER={SECRET}", "has no variable with the name in `key`"),
        (f"\nKEY: {SECRET}", "line 2 must be NAME=VALUE, a comment, or empty"),
        (f"KEY ={SECRET}", "line 1 must be NAME=VALUE, a comment, or empty"),
        *((f"KEY=a{sign}{SECRET}", AMBIGUOUS) for sign in " #$`\\"),
        *((f'KEY="a{sign}{SECRET}"', AMBIGUOUS) for sign in "$`\\"),
        (f"KEY='{SECRET}' # c", AMBIGUOUS),
        (f"OTHER='a\nKEY={SECRET}'", OPEN),
        (f'OTHER=a"b\nKEY={SECRET}"', OPEN),
        (f"KEY=a\nKEY={SECRET}", "line 2 sets the variable for the second time: remove one"),
    ],
)
def test_unusable_dotenv_has_a_reason_with_its_line(text: str, reason: str) -> None:
    assert reason_of(FileEntry("dotenv", "KEY"), text) == reason


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12))
def test_shell_reads_the_same_value(raw: str) -> None:
    """A value that Sidekey accepts is the one that a shell reads."""
    text = f"KEY={raw}"
    try:
        value = find_entry(FileEntry("dotenv", "KEY"), text)
    except ValueError:
        return
    if value.startswith("~") or not raw.strip(" ").startswith(("'", '"')):
        # A shell expands ~ and runs what follows & or ;, which dotenv files contain without quotes.
        return
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{text}\nprintf %s "$KEY"'], capture_output=True, text=True, check=True, env={}
    )
    assert shown.stdout == value
