"""The Dockerfile and what goes with it, as far as no build is needed; `.ci/image` builds, runs and measures."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import sidekey
from support import programs
from support.child import run_process

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its arguments, in order, continuation lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, which begins with its FROM; what comes before the first is left out."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def of_last_stage(word: str) -> list[str]:
    """The arguments of this instruction, wherever it stands in the last stage."""
    return [rest for name, rest in stages()[-1] if name == word]


def copied() -> set[str]:
    """What COPY takes from the checkout."""
    sources = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    return {name for names in sources for name in names}


def test_the_port_of_the_proxy_is_exposed() -> None:
    """The one of the examples; the admin listener stays at the loopback address."""
    assert of_last_stage("EXPOSE") == ["8080"]


def test_hadolint_finds_nothing() -> None:
    """Not even at its lowest threshold, and nothing in the Dockerfile tells it to look away."""
    hadolint = programs.require("hadolint")
    command = [hadolint, "--no-color", "--disable-ignore-pragma", "--failure-threshold=ignore", str(DOCKERFILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_stage_is_built_on_the_base_that_is_asked_for() -> None:
    """Both are named before the first stage, with a tag; a release adds digests. They are one Python, at one place."""
    assert [stage[0][1].partition(" ")[0] for stage in stages()] == ["${BUILD_BASE}", "${BASE}"]
    named = [rest for word, rest in instructions()[:2] if word == "ARG"]
    version = re.fullmatch(r"BASE=[a-z/]+:(3\.\d+)-slim-([a-z]+)", named[0])
    assert version is not None
    assert named[1] == "BUILD_BASE=python:{}-{}".format(*version.groups())


def test_the_image_is_compiled_and_says_so() -> None:
    """The build stage asks for the compiled wheel; the last one runs what it was given."""
    runs = [rest for word, rest in stages()[0] if word == "RUN"]
    assert [run.startswith("HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 ") for run in runs if "pip wheel" in run] == [True]
    assert '["sidekey", "--version"]' in of_last_stage("RUN")


def test_every_install_is_locked_or_offline() -> None:
    """pip checks the hash of what it fetches, and builds nothing of it; the rest comes from the checkout."""
    runs = " && ".join(rest for word, rest in instructions() if word == "RUN")
    commands = [part.strip() for part in runs.split("&&") if re.search(r"\bpip\b.* (?:install|wheel) ", part)]
    assert len(commands) == 4
    for command in commands:
        fetches = "--no-index" not in command
        assert fetches == ("--require-hashes" in command) == ("--only-binary :all:" in command), command
        assert fetches or "--no-deps" in command, command


def test_the_last_stage_installs_nothing() -> None:
    """Neither pip nor the base's own package manager runs there."""
    assert [run for run in of_last_stage("RUN") if re.search(r"\bpip3? |\bapt|\bdpkg|\bapk\b", run)] == []


def test_the_user_is_a_number_and_not_root() -> None:
    """Kubernetes' runAsNonRoot can judge it; no later instruction goes back to root."""
    assert of_last_stage("USER") == ["65532:65532"]


def test_the_command_line_starts_it_and_asks_for_its_health() -> None:
    """Without a shell, so that signals reach the process."""
    assert of_last_stage("ENTRYPOINT") == ['["sidekey"]']
    assert of_last_stage("CMD") == ['["run"]']
    assert [rest.partition("CMD ")[2] for rest in of_last_stage("HEALTHCHECK")] == ['["sidekey", "healthcheck"]']


def test_it_declares_no_volume_and_takes_no_secret_along() -> None:
    """A volume would be writable; an ARG or ENV stays readable in the image's history."""
    assert of_last_stage("VOLUME") == []
    names = [rest.partition("=")[0] for word, rest in instructions() if word in ("ARG", "ENV")]
    assert set(names) == {"BASE", "BUILD_BASE", "VERSION", "REVISION", "PATH"}


def test_its_labels_say_what_the_project_says() -> None:
    """Version, description and licence stand in other files as well."""
    (labels,) = of_last_stage("LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', labels))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (said["description"], said["licenses"]) == (project["description"], project["license"])
    assert (said["version"], said["revision"], said["base.name"]) == ("${VERSION}", "${REVISION}", "${BASE}")
    assert {"VERSION=unknown", "REVISION=unknown"} <= set(of_last_stage("ARG"))  # `make image` passes both


def test_the_builder_is_given_exactly_what_is_copied() -> None:
    """`.dockerignore` leaves everything out, lets these in again, and then drops what Python compiles."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert let_in == copied()
    assert [line for line in lines[1 + len(let_in) :] if not line.startswith("**/")] == []


def test_all_that_is_copied_exists() -> None:
    """The locks among it."""
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert {"requirements.txt", "requirements-compile.txt"} <= copied()


def test_the_image_holds_what_every_extra_needs() -> None:
    """Whoever runs the image cannot add a package to it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w-]", text)[0] for extra in project["optional-dependencies"].values() for text in extra}
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.M))
    assert needed <= locked


def test_the_compose_example_runs_this_image() -> None:
    """It builds the Dockerfile of the checkout and takes its entry point and command."""
    service = yaml.safe_load((ROOT / "examples" / "compose.yaml").read_text())["services"]["sidekey"]
    assert (ROOT / "examples" / service["build"]).resolve() == ROOT.resolve()
    assert {"entrypoint", "command"}.isdisjoint(service)


@pytest.mark.parametrize(("builder", "format_asked"), [("docker", False), ("podman", True), ("buildah", True)])
def test_make_keeps_the_health_check_with_every_builder(builder: str, format_asked: bool) -> None:
    """podman and buildah write OCI images by default, which have no HEALTHCHECK."""
    command = [
        programs.require("make"),
        "--dry-run",
        "image",
        f"BUILDER={builder}",
        "BASE=python:x",
        "BUILD_BASE=python:y",
        "IMAGE=a:b",
    ]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"{builder} build" in planned
    assert ("--format docker" in planned) == format_asked
    assert "--build-arg BASE='python:x' --build-arg BUILD_BASE='python:y'" in re.sub(
        r"\s+", " ", planned.replace("\\\n", "")
    )
    assert "--tag 'a:b'" in planned


@pytest.mark.parametrize("address", ["", "https://forge.example/owner/sidekey"])
def test_labels_lead_to_the_repository_of_the_release(address: str) -> None:
    """Without an address the image has no links."""
    command = [programs.require("make"), "--dry-run", "image", f"SIDEKEY_REPOSITORY_URL={address and f'{address}/'}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    labels = dict(re.findall(r"--label org\.opencontainers\.image\.([a-z]+)=(?:'([^']*)')?", planned))
    pages = f"{address}/blob/v{sidekey.__version__}/docs/README.md"
    links = {"source": address, "url": address, "documentation": pages} if address else {}
    assert labels == {"created": "", **links}


def test_a_build_takes_packages_from_where_this_machine_does(tmp_path: Path) -> None:
    """`.ci/pip_conf.py` hands on the index, the environment first, and nothing that only this machine has."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\nextra-index-url = https://two.example/simple\n"
        "constraint = /of/this/machine.txt\nfind-links = /of/this/machine\ncert = /of/this/machine.pem\n"
    )
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "https://three.example/simple",
        "PIP_FIND_LINKS": "/of/this/machine",
    }
    command = [sys.executable, str(ROOT / ".ci" / "pip_conf.py"), "/run/ca.pem"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "/of/this/machine" not in result.stdout
    lines = set(result.stdout.splitlines())
    assert {"cert = /run/ca.pem", "index-url = https://three.example/simple"} <= lines
    assert "extra-index-url = https://two.example/simple" in lines


def test_the_lines_that_run_the_image_work_on_a_clean_clone() -> None:
    """Of docs/install.md, with the program in place of the image: what they mount is in the project."""
    text = (ROOT / "docs" / "install.md").read_text("utf-8").replace("\\\n", "")
    lines = [shlex.split(line) for line in re.findall(r"^docker run .*$", text, re.M)]
    assert [line[-1] for line in lines] == ["--once", "check"]
    for line in lines:
        arguments = line[line.index("sidekey") + 1 :]
        options = list(pairwise(line))
        environment = dict(value.split("=", 1) for option, value in options if option == "--env")
        for folder, place, _ in (value.split(":") for option, value in options if option == "--volume"):
            real = folder.replace("$PWD", str(ROOT))
            environment = {name: value.replace(place, real) for name, value in environment.items()}
        result = run_process(*arguments, environment=environment)
        assert result.returncode == 0, result.stdout + result.stderr
