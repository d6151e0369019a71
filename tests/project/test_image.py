"""The Dockerfile and related files, without a build. `.ci/image` builds, runs and measures."""

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
from support.sidekey_process import run_process

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return each instruction and its arguments, with continuation lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines())]


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage, without those before the first FROM."""
    result: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            result.append([])
        if result:
            result[-1].append((word, rest))
    return result


def of_last_stage(word: str) -> list[str]:
    """Return the arguments of each such instruction in the last stage."""
    return [rest for name, rest in stages()[-1] if name == word]


def copied() -> set[str]:
    """Return the paths that COPY takes from the checkout."""
    sources = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    return {name for names in sources for name in names}


def test_only_the_proxy_port_is_exposed() -> None:
    assert of_last_stage("EXPOSE") == ["8080"]


def test_hadolint_finds_nothing_without_exceptions() -> None:
    hadolint = programs.require("hadolint")
    command = [hadolint, "--no-color", "--disable-ignore-pragma", "--failure-threshold=ignore", str(DOCKERFILE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_stage_is_built_on_a_base_argument() -> None:
    """Both bases have the same Python, and a tag to which a release adds a digest."""
    assert [stage[0][1].partition(" ")[0] for stage in stages()] == ["${BUILD_BASE}", "${BASE}"]
    named = [rest for word, rest in instructions()[:2] if word == "ARG"]
    version = re.fullmatch(r"BASE=[a-z/]+:(3\.\d+)-slim-([a-z]+)", named[0])
    assert version is not None
    assert named[1] == "BUILD_BASE=python:{}-{}".format(*version.groups())


def test_image_installs_the_compiled_wheel() -> None:
    runs = [rest for word, rest in stages()[0] if word == "RUN"]
    assert [run.startswith("HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 ") for run in runs if "pip wheel" in run] == [True]
    assert '["sidekey", "--version"]' in of_last_stage("RUN")


def test_every_install_is_locked_or_offline() -> None:
    runs = " && ".join(rest for word, rest in instructions() if word == "RUN")
    commands = [part.strip() for part in runs.split("&&") if re.search(r"\bpip\b.* (?:install|wheel) ", part)]
    assert len(commands) == 4
    for command in commands:
        fetches = "--no-index" not in command
        assert fetches == ("--require-hashes" in command) == ("--only-binary :all:" in command), command
        assert fetches or "--no-deps" in command, command


def test_last_stage_installs_nothing() -> None:
    assert [run for run in of_last_stage("RUN") if re.search(r"\bpip3? |\bapt|\bdpkg|\bapk\b", run)] == []


def test_user_is_a_number_and_not_root() -> None:
    """Kubernetes' runAsNonRoot needs a number."""
    assert of_last_stage("USER") == ["65532:65532"]


def test_entry_point_and_health_check_use_no_shell() -> None:
    """Signals must reach the process."""
    assert of_last_stage("ENTRYPOINT") == ['["sidekey"]']
    assert of_last_stage("CMD") == ['["run"]']
    assert [rest.partition("CMD ")[2] for rest in of_last_stage("HEALTHCHECK")] == ['["sidekey", "healthcheck"]']


def test_image_has_no_volume_and_no_secret() -> None:
    """A volume would be writable, and an ARG or ENV stays in the image's history."""
    assert of_last_stage("VOLUME") == []
    names = [rest.partition("=")[0] for word, rest in instructions() if word in ("ARG", "ENV")]
    assert set(names) == {"BASE", "BUILD_BASE", "VERSION", "REVISION", "PATH"}


def test_labels_match_the_project() -> None:
    (labels,) = of_last_stage("LABEL")
    values = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', labels))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (values["description"], values["licenses"]) == (project["description"], project["license"])
    assert (values["version"], values["revision"], values["base.name"]) == ("${VERSION}", "${REVISION}", "${BASE}")
    assert {"VERSION=unknown", "REVISION=unknown"} <= set(of_last_stage("ARG"))  # `make image` passes both


def test_build_context_has_exactly_the_copied_files() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    included = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert included == copied()
    assert [line for line in lines[1 + len(included) :] if not line.startswith("**/")] == []


def test_every_copied_file_exists() -> None:
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert {"requirements.txt", "requirements-compile.txt"} <= copied()


def test_image_has_the_packages_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w-]", text)[0] for extra in project["optional-dependencies"].values() for text in extra}
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.M))
    assert needed <= locked


def test_the_compose_example_runs_this_image() -> None:
    service = yaml.safe_load((ROOT / "examples" / "compose.yaml").read_text())["services"]["sidekey"]
    assert (ROOT / "examples" / service["build"]).resolve() == ROOT.resolve()
    assert {"entrypoint", "command"}.isdisjoint(service)


@pytest.mark.parametrize(("builder", "has_format"), [("docker", False), ("podman", True), ("buildah", True)])
def test_make_keeps_the_health_check_with_every_builder(builder: str, has_format: bool) -> None:
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
    assert ("--format docker" in planned) == has_format
    assert "--build-arg BASE='python:x' --build-arg BUILD_BASE='python:y'" in re.sub(
        r"\s+", " ", planned.replace("\\\n", "")
    )
    assert "--tag 'a:b'" in planned


@pytest.mark.parametrize("address", ["", "https://forge.example/owner/sidekey"])
def test_labels_link_to_the_repository_of_the_release(address: str) -> None:
    """Without an address the image has no links."""
    command = [programs.require("make"), "--dry-run", "image", f"SIDEKEY_REPOSITORY_URL={address and f'{address}/'}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    labels = dict(re.findall(r"--label org\.opencontainers\.image\.([a-z]+)=(?:'([^']*)')?", planned))
    pages = f"{address}/blob/v{sidekey.__version__}/docs/README.md"
    links = {"source": address, "url": address, "documentation": pages} if address else {}
    assert labels == {"created": "", **links}


def test_build_uses_the_package_index_of_the_machine(tmp_path: Path) -> None:
    """`.ci/pip_conf.py` passes on the index, from the environment first, and nothing else of the machine."""
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


def test_commands_of_the_install_page_work_on_a_clean_clone() -> None:
    """The program runs in place of the image."""
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
