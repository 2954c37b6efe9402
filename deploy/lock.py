"""Print a lock file, each package with the SHA-256 of the one file that is installed.

    pip install --dry-run --ignore-installed --report FILE -c constraints.txt .
    python deploy/lock.py < FILE > requirements.lock

For the Python and the platform that it is made on. torch is left out where it did not come from an
index, since a build that lies on one machine is not what another one gets; any other package that
did not is an error, so that no lock is short of one in silence.
"""

import json
import sys
from typing import Any

HEAD = """\
# The packages of a deployment and the SHA-256 of each one's file, made by `make lock` for one
# Python and one platform. pip install --require-hashes --no-deps -r requirements.lock
"""
MAY_LACK = frozenset({"torch"})


def lines(report: dict[str, Any]) -> list[str]:
    """Return a line for each package that pip would install, but for the project's own.

    Raises:
        SystemExit: naming packages that came from a local file.
    """
    made, local = [], []
    for one in report["install"]:
        name, version = one["metadata"]["name"].lower(), one["metadata"]["version"]
        told = one["download_info"]
        digest = told.get("archive_info", {}).get("hashes", {}).get("sha256")
        if name == "fedtail":
            continue
        if digest is not None and told["url"].startswith("https://"):
            made.append(f"{name}=={version} --hash=sha256:{digest}")
        elif name in MAY_LACK:
            made.append(f"# {name}=={version}: install it first, from a source you trust")
        else:
            local.append(name)
    if local:
        raise SystemExit(f"From local files, so without a hash to rely on: {', '.join(local)}")
    return sorted(made)


if __name__ == "__main__":
    sys.stdout.write(HEAD + "\n".join(lines(json.load(sys.stdin))) + "\n")
