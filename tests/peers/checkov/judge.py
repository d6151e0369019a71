"""What checkov finds in the manifests of a folder, each a list of objects in JSON; run by checkov's own Python.

The command imports the runners of all frameworks, and reads JSON as YAML to know lines.
"""

from __future__ import annotations

import json
import os
import sys

# As bytes: what is larger is read as JSON. A process for each file takes longer than to read it.
os.environ |= {"CHECKOV_MAX_IAC_FILE_SIZE": "1", "CHECKOV_PARALLELIZATION_TYPE": "none"}

from checkov.kubernetes.runner import Runner  # reads those when it is imported
from checkov.runner_filter import RunnerFilter


def main() -> None:
    """Print it as JSON."""
    report = Runner().run(root_folder=sys.argv[1], runner_filter=RunnerFilter(framework=["kubernetes"]))
    failed = [[[each.check_id, each.check_name], f"{each.file_path} {each.resource}"] for each in report.failed_checks]
    json.dump({"failed": failed, "summary": report.get_summary()}, sys.stdout)


if __name__ == "__main__":
    main()
