"""The formats of `sidekey env`: a shell that evaluates the output sets exactly the values."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.cli.shells import FORMATS, InvalidValue, docker, fish, kubernetes, posix, powershell

HOSTILE = [
    "",
    " a  b ",
    "it's",
    "\\",
    "\\'",
    "a\\",
    '"$(id)`id`${HOME}$HOME',
    "a\nb\n",
    "\t|;&<>*?[]{}~#!",
    "'; id; '",
    "\u2018; id; \u2019\u201a\u201b",
    "# no comment",
    "a=b",
    "no",
    "12",
    "caf\u00e9 \U0001f511",
    "-n",
    "$$(HOME) $(HOME) $",
]
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def evaluate(text: str) -> bytes:
    """Evaluate the text in a POSIX shell, and return the variable V."""
    script = 'eval "$TEXT"; printf %s "$V"'
    return subprocess.run(["/bin/sh", "-c", script], env={"TEXT": text}, capture_output=True, check=True).stdout


@pytest.mark.parametrize("value", HOSTILE)
def test_posix_shell_reads_hostile_values(value: str) -> None:
    assert evaluate(posix({"V": value})) == value.encode()


def test_bytes_that_are_not_utf_8_are_unchanged() -> None:
    assert evaluate(posix({"V": os.fsdecode(b"\xff'\xfe")})) == b"\xff'\xfe"


@settings(max_examples=30)
@given(WORDS)
def test_posix_shell_reads_any_value(value: str) -> None:
    assert evaluate(posix({"V": value})) == value.encode()


def read_as_fish(text: str) -> str:
    """Parse a single-quoted word of fish, in which a backslash escapes only itself and the quote."""
    match = re.fullmatch(r"set -gx V '((?:[^'\\]|\\.)*)'\n", text, re.DOTALL)
    assert match is not None, text
    return re.sub(r"\\([\\'])", r"\1", match[1])


def read_as_powershell(text: str) -> str:
    """Parse a single-quoted string of PowerShell, which ends at any of five quotes that is not doubled."""
    match = re.fullmatch("\\$env:V = '((?:[^'\u2018\u2019\u201a\u201b]|['\u2018\u2019\u201a\u201b]{2})*)'\n", text)
    assert match is not None, text
    return re.sub("(['\u2018\u2019\u201a\u201b])['\u2018\u2019\u201a\u201b]", r"\1", match[1])


@given(WORDS | st.sampled_from(HOSTILE))
def test_fish_and_powershell_read_the_value(value: str) -> None:
    assert read_as_fish(fish({"V": value})) == value
    assert read_as_powershell(powershell({"V": value})) == value


@given(WORDS | st.sampled_from(HOSTILE))
def test_docker_reads_the_rest_of_a_line(value: str) -> None:
    """A value with a line break could set another variable."""
    if "\n" in value or "\r" in value:
        with pytest.raises(InvalidValue, match="V: a docker env-file cannot hold a line break"):
            docker({"V": value})
        return
    (line,) = docker({"V": value}).split("\n")[:-1]
    assert line.partition("=") == ("V", "=", value)


def expand(text: str) -> str:
    """Expand a value like the kubelet (expansion.Expand), which must find no reference to a variable."""
    expansion = ""
    at = 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            assert text[at + 1] == "$", "an expansion could begin here"
            at += 1
        expansion += text[at]
        at += 1
    return expansion


@given(WORDS | st.sampled_from(HOSTILE))
def test_kubernetes_reads_the_value(value: str) -> None:
    """The kubelet expands $(NAME) after it has parsed the YAML."""
    (entry,) = yaml.safe_load(kubernetes({"V": value}))["env"]
    assert (entry["name"], expand(entry["value"])) == ("V", value)


@pytest.mark.parametrize("form", [docker, kubernetes])
def test_text_formats_refuse_bytes_that_are_not_utf_8(form: object) -> None:
    with pytest.raises(InvalidValue, match="V: must be UTF-8"):
        form({"V": "\udcff"})  # type: ignore[operator]


def test_only_shell_formats_extend_this_environment() -> None:
    """The other formats are for containers."""
    assert [name for name, shell in FORMATS.items() if shell.in_place] == ["sh", "bash", "zsh", "fish", "powershell"]
