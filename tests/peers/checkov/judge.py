"""Print what checkov finds in the manifests of a folder. Each is a list of objects in JSON.

checkov's own Python runs this module. The command `checkov` would import the runners of all frameworks, and would read
JSON as YAML.
"""

from __future__ import annotations

import json
import os
import sys

# A larger file, in bytes, is read as JSON. A process for each file would take longer than reading it.
os.environ |= {"CHECKOV_MAX_IAC_FILE_SIZE": "1", "CHECKOV_PARALLELIZATION_TYPE": "none"}

from checkov.kubernetes.runner import Runner  # reads the variables when it is imported
from checkov.runner_filter import RunnerFilter


def main() -> None:
    """Print the findings as JSON."""
    report = Runner().run(root_folder=sys.argv[1], runner_filter=RunnerFilter(framework=["kubernetes"]))
    failed = [
        [[check.check_id, check.check_name], f"{check.file_path} {check.resource}"] for check in report.failed_checks
    ]
    json.dump({"failed": failed, "summary": report.get_summary()}, sys.stdout)


if __name__ == "__main__":
    main()
