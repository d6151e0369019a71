"""The build hook of the compiled wheel: mypyc turns the hot modules into extensions that lie beside their sources.

Hatchling loads it only where HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 asks for it, as `make wheel` does. pyproject.toml says
which modules are hot and what the compiler needs. Every other build stays pure: see docs/decisions/0026.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from mypyc.build import mypycify
from setuptools import Distribution

LIBRARY = "sidekey.compiled"
"""One extension, `sidekey.compiled__mypyc`, holds all the code, so that hot modules call one another directly. The
extensions beside the sources are small: each has that one make its module."""


class CompileHook(BuildHookInterface[Any]):
    """Compiles before the wheel is written, and removes what the compiler left after that."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the extensions to the wheel; its tag names the Python and the platform that they are for."""
        package = Path("proxy", "sidekey")
        found = {path for glob in self.config["modules"] for path in package.glob(glob)}
        sources = sorted(str(path) for path in found if path.name != "__init__.py")
        self.scratch = TemporaryDirectory()
        extensions = mypycify(sources, debug_level="0", target_dir=self.scratch.name, group_name=LIBRARY)
        for extension in extensions:
            extension.extra_link_args.append("-s")  # no symbols: two thirds of the size
        command: Any = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = self.scratch.name
        command.ensure_finalized()
        command.run()
        built = {file: os.path.relpath(file, self.scratch.name) for file in command.get_outputs()}
        build_data["force_include"].update(built)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiler's files."""
        self.scratch.cleanup()
