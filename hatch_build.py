"""The build hook of the compiled wheel: mypyc turns the hot modules into extensions that lie beside their sources.

Hatchling runs it only where HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 asks for it, as `make wheel` does; pyproject.toml says
which modules and what it needs. Every other build, and an editable install, stays pure. See docs/decisions/0026.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("proxy")
LIBRARY = "sidekey.compiled"
"""All compiled code is in one extension, `sidekey.compiled__mypyc`: calls within it cost least. The others import it."""


class CompileHook(BuildHookInterface[Any]):
    """Compiles before the wheel is written, and removes what the compiler left after it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the extensions to the wheel, and have its tag name the Python and the platform that they are for."""
        # Neither is installed where a pure wheel is built.
        from mypyc.build import mypycify
        from setuptools import Distribution

        modules = {path for glob in self.config["modules"] for path in (SOURCE / "sidekey").glob(glob)}
        sources = sorted(str(path) for path in modules if path.name != "__init__.py")
        self.scratch = TemporaryDirectory()
        extensions = mypycify(sources, debug_level="0", target_dir=self.scratch.name, group_name=LIBRARY)
        for extension in extensions:
            extension.extra_link_args.append("-s")
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = self.scratch.name
        command.ensure_finalized()
        command.run()
        build_data["force_include"] |= {file: os.path.relpath(file, self.scratch.name) for file in command.get_outputs()}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the compiler's files."""
        self.scratch.cleanup()
