"""What `make` does for a developer, on machines that lack something too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support import peers

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder, with a space in its path, that holds what make reads and no environment yet."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    locks = [*ROOT.glob("requirements*.txt"), *ROOT.glob("tests/peers/*/requirements.txt")]
    for path in [ROOT / "Makefile", ROOT / "pyproject.toml", *locks]:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return folder


OF_THE_OUTER_MAKE = {
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MFLAGS",
    "ARGS",
    "ONCE",
    "PACKAGES",
    "PYTHON",
    "ROWS",
    "SAMPLE",
    "WHEEL",
}
"""What a make hands down to its children: its own, and the variables of its command line."""


GOOD_ENOUGH = "PYTHON=true"
"""An interpreter that says yes to all that is asked of its version, for runs in which it does nothing else."""


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell of its own, not as a part of the make that runs the tests."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_OUTER_MAKE}
    command = [peers.require("make"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def python_that(folder: Path, customisation: str) -> str:
    """An interpreter whose start-up code is `customisation`."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(customisation)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return f"'{script}'"


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_a_python_without_venv_is_named_in_one_line(target: str, checkout: Path) -> None:
    """Debian ships Python without ensurepip: make says which package to install, and nothing else."""
    python = python_that(checkout, "import sys; sys.modules['ensurepip'] = None")
    result = make(checkout, target, f"PYTHON={python}")
    assert result.returncode == 2
    assert len((result.stdout + result.stderr).splitlines()) == 1
    assert "install python3-venv" in result.stderr


@pytest.mark.parametrize("python", ["a-python-that-does-not-exist", ""])
def test_an_old_or_absent_python_is_named_in_one_line(python: str, checkout: Path) -> None:
    """The line says which version is needed and how to name another interpreter."""
    python = python or python_that(checkout, "import sys; sys.version_info = (3, 10, 12)")
    result = make(checkout, "test", f"PYTHON={python}")
    assert result.returncode == 2
    assert len((result.stdout + result.stderr).splitlines()) == 1
    assert "Python 3.11 or newer" in result.stderr
    assert "PYTHON=" in result.stderr


OPTIMISED = 'import sys; sys.base_prefix = "/usr"'
UNOPTIMISED = 'import sys, sysconfig; sys.base_prefix = "/opt"; sysconfig.get_config_vars()["CONFIG_ARGS"] = ""'
NO_VENV = f"{OPTIMISED}; sys.modules['ensurepip'] = None"


@pytest.mark.parametrize(
    ("python3", "debian", "explicit", "chosen"),
    [
        (OPTIMISED, {"3.13": OPTIMISED}, "", "python3"),
        (UNOPTIMISED, {"3.13": OPTIMISED, "3.11": OPTIMISED}, "", "debian3.13"),
        (UNOPTIMISED, {"3.12": OPTIMISED, "3.11": OPTIMISED}, "", "debian3.12"),
        (UNOPTIMISED, {"3.13": NO_VENV, "3.11": OPTIMISED}, "", "debian3.11"),
        (UNOPTIMISED, {"3.13": NO_VENV}, "", "python3"),
        (UNOPTIMISED, {}, "", "python3"),
        (UNOPTIMISED, {"3.13": OPTIMISED}, "python3", "python3"),
    ],
)
def test_an_optimised_python_is_preferred(
    python3: str, debian: dict[str, str], explicit: str, chosen: str, checkout: Path
) -> None:
    """An unoptimised `python3` gives way to the newest Debian one that can make an environment, if nobody names one."""
    bin_folder = checkout / "bin"
    bin_folder.mkdir()
    for name, customisation in {"python3": python3, **{f"debian{v}": text for v, text in debian.items()}}.items():
        folder = checkout / name
        folder.mkdir()
        Path(python_that(folder, customisation).strip("'")).rename(bin_folder / name)
    asked = [f"PATH={bin_folder}:{os.environ['PATH']}", "DEBIAN=debian", *([f"PYTHON={explicit}"] if explicit else [])]
    result = make(checkout, *asked, "--eval", "chosen: ; @echo '$(PYTHON)'", "chosen")
    assert (result.stdout, result.stderr) == (f"{chosen}\n", "")


def test_a_real_python_of_debian_counts_as_optimised(checkout: Path) -> None:
    """Its packages are built with profile-guided optimisation, which their `sysconfig` does not tell."""
    versions = [each for each in ("3.13", "3.12", "3.11") if Path(f"/usr/lib/python{each}/ensurepip").exists()]
    interpreters = [f"/usr/bin/python{version}" for version in versions]
    if not interpreters:
        pytest.skip("no Python of Debian's with venv is installed")
    for interpreter in interpreters:
        eval_ = f"optimised: ; @echo '$(call if_optimised,{interpreter})'"
        assert make(checkout, "PYTHON=x", "--eval", eval_, "optimised").stdout == f"{interpreter}\n"


@pytest.mark.parametrize("target", TARGETS)
def test_only_two_targets_call_tools_of_the_system(target: str, checkout: Path) -> None:
    """apt belongs to `make peers` and uv to `make lock`; nothing calls sudo."""
    planned = make(checkout, "--dry-run", target, GOOD_ENOUGH)
    assert planned.returncode == 0, planned.stderr
    assert bool(re.search(r"\bapt", planned.stdout)) == (target == "peers")
    assert bool(re.search(r"\buv ", planned.stdout)) == (target == "lock")
    assert "sudo" not in planned.stdout


@pytest.mark.parametrize("wheel", ["dist/*.whl", "dist/none.whl"])
def test_a_wheel_that_does_not_exist_is_named(wheel: str, checkout: Path) -> None:
    """`make test WHEEL=...` never falls back to testing the checkout."""
    environment = checkout / ".venv-wheel"
    environment.mkdir()
    for stamp in (".made", ".dev"):
        (environment / stamp).touch()
    result = make(checkout, "test", f"WHEEL={wheel}")
    assert result.returncode == 2
    assert f"WHEEL={wheel} must name one wheel" in result.stderr


@pytest.mark.parametrize(
    ("wheel", "build"),
    [("sidekey-0.1.0-py3-none-any.whl", "pure"), ("sidekey-0.1.0-cp313-cp313-linux_x86_64.whl", "compiled")],
)
def test_the_tests_of_a_wheel_know_which_build_it_must_be(wheel: str, build: str, checkout: Path) -> None:
    """The wheel's own name says it."""
    (checkout / "dist").mkdir()
    (checkout / "dist" / wheel).touch()
    planned = make(checkout, "--dry-run", "test", "WHEEL=dist/*.whl", GOOD_ENOUGH).stdout
    assert f"SIDEKEY_EXPECT_BUILD={build} .venv-wheel/bin/python" in planned


@pytest.mark.parametrize(("path", "named"), [("", "podman"), (os.environ["PATH"], "root")])
def test_tests_of_containers_name_what_the_machine_lacks(path: str, named: str, tmp_path: Path) -> None:
    """They may lack both. In a user namespace root has another number, and still reads its files."""
    user = [peers.require("unshare"), "--user", "--map-user=65534"] if os.geteuid() == 0 else []
    options = ["-p", "no:cacheprovider", f"--basetemp={tmp_path}/base"]
    command = [*user, sys.executable, "-m", "pytest", *options, "tests/container"]
    environment = {"CONTAINER_TEST": "1", "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(rf"container-test: needs .*\b{named}\b", result.stdout)


def test_the_hooks_of_pre_commit_are_the_commands_of_lint() -> None:
    """In the same order, except the tests, which take too long for each commit."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    commands = re.findall(r"^\t(\$\(BIN\).*?)(?: \$\(SOURCES\))?$", recipe[1], re.M)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [
        command.replace("$(BIN)", ".venv/bin") for command in commands
    ]


def test_every_make_command_in_the_documents_exists() -> None:
    """A command that a reader copies is a target of the Makefile."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        target
        for document in documents
        for target in re.findall(r"(?:^|`|\$ )make (?:[A-Z]+=\S+ )*([a-z-]+)", document.read_text(), re.M)
    }
    assert {"demo", "test"} <= named
    assert named <= set(TARGETS)
