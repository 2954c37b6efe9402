"""Print a lock file, each package with the SHA-256 of the one file that is installed.

    pip install --dry-run --ignore-installed --report CHOSEN -c constraints.txt .
    python deploy/lock.py names < CHOSEN > NAMES
    pip install --dry-run --ignore-installed --no-deps --report LISTED -r NAMES
    python deploy/lock.py hashes < LISTED > requirements.lock

For the Python and the platform that it is made on. The first pip may take packages from a folder;
the second asks the index alone, so that each hash is of a file that another machine gets as well.
torch is left out: it comes in several builds, for processors and for graphics cards. Any other
package that did not come from an index is an error, so that no lock is short of one in silence.
"""

import json
import sys
from typing import Any

HEAD = """\
# The packages of a deployment and the SHA-256 of each one's file, made by `make lock` for one
# Python and one platform. Install torch first: docs/how-to-run-a-deployment.md says how.
#   pip install --require-hashes --no-deps -r requirements.lock
"""
OUR_OWN, LEFT_OUT = "fedtail", "torch"


def names(report: dict[str, Any]) -> list[str]:
    """Return each package that pip would install, with its version, but for ours and torch."""
    return sorted(
        f"{name}=={version}"
        for name, version in _versions(report)
        if name not in {OUR_OWN, LEFT_OUT}
    )


def hashes(report: dict[str, Any]) -> list[str]:
    """Return a line of the lock for each package.

    Raises:
        SystemExit: naming packages that came from no index.
    """
    made, local = [], []
    for (name, version), one in zip(_versions(report), report["install"], strict=True):
        told = one["download_info"]
        digest = told.get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is not None and told["url"].startswith("https://"):
            made.append(f"{name}=={version} --hash=sha256:{digest}")
        else:
            local.append(name)
    if local:
        raise SystemExit(f"From local files, so without a hash to rely on: {', '.join(local)}")
    return sorted(made)


def _versions(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (one["metadata"]["name"].lower().replace("_", "-"), one["metadata"]["version"])
        for one in report["install"]
    ]


if __name__ == "__main__":
    lines = {"names": names, "hashes": hashes}[sys.argv[1]](json.load(sys.stdin))
    head = HEAD if sys.argv[1] == "hashes" else ""
    sys.stdout.write(head + "\n".join(lines) + "\n")
