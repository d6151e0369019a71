"""A command that runs Helm 4 as a library, so that it can run in the network of a node.

Usage: helm.py VERB NAME NAMESPACE [CHART], values as JSON on standard input; KUBECONFIG names the cluster.
"""

from __future__ import annotations

import json
import os
import sys

import helm_python

_SECONDS = 150


def main() -> None:
    """Run one verb. A failure prints one line to standard error and exits with status 1."""
    verb, name, namespace, *chart = sys.argv[1:]
    try:
        with helm_python.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=namespace) as helm:
            if verb in ("install", "upgrade"):
                values = json.load(sys.stdin)
                act = helm.install if verb == "install" else helm.upgrade
                act(chart[0], name, values, namespace=namespace, timeout=_SECONDS, wait="watcher")
            elif verb == "rollback":
                helm.rollback(name, timeout=_SECONDS, wait="watcher")
            elif verb == "test":
                helm.test(name, timeout=_SECONDS)
            else:
                helm.uninstall(name, timeout=_SECONDS, wait="watcher")
    except helm_python.HelmError as error:
        sys.exit(f"helm {verb} {name}: {error}")


if __name__ == "__main__":
    main()
