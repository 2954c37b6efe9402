"""Knock at the server until it lets a node in.

    python -P -m client.deployment.connection_wait FOLDER PARENT

A process of its own, because Flower's client takes 25 MB that nothing else of a node's starter
needs. It prints an `Answer` a line: one when the server does not answer, after which it tries
again, and one when it never will let the node in. It knocks no more once process PARENT has gone:
another start of the node may be connected by then, whom a connection check would sign off.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.deployment.provisioning import NodeFolder
from common.errors import FederationError, FedtailError

RETRY_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """Why the node is not in.

    Attributes:
        message: For the merchant.
        field: What it is about.
        final: Whether another connection check would be in vain.
    """

    message: str
    field: str
    final: bool


def connection_wait_command(folder: Path) -> list[str]:
    """Return what to start. -P: a folder named client in this one would hide the package."""
    return [
        sys.executable,
        "-P",
        "-m",
        "client.deployment.connection_wait",
        str(folder),
        str(os.getpid()),
    ]


def read_answers(text: str) -> list[Answer]:
    """Return the answers in what the process has printed so far; what else it says is left out."""
    answers = []
    for line in text.splitlines():
        try:
            answers.append(Answer(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # a line that is not whole yet, or a warning of a library
    return answers


def wait_for_connection(folder: NodeFolder, parent: int) -> bool:
    """Return whether the server lets the node in, as soon as that is known."""
    from client.deployment.connection_check import check_connection  # noqa: PLC0415 - whoever starts this process spares it

    told = False
    while os.getppid() == parent:
        try:
            check_connection(folder, datetime.now(UTC))
        except FederationError as error:
            if not told:
                _print(error, final=False)
                told = True
            time.sleep(RETRY_SECONDS)
        except FedtailError as error:
            _print(error, final=True)
            return False
        else:
            return True
    return False


def _print(error: FedtailError, *, final: bool) -> None:
    answer = Answer(str(error), error.field, final)
    print(json.dumps(asdict(answer)), flush=True)  # noqa: T201 - what the parent reads


if __name__ == "__main__":
    sys.exit(0 if wait_for_connection(NodeFolder(Path(sys.argv[1])), int(sys.argv[2])) else 1)
