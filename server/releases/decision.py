"""What the gate has decided of a run, in the run's folder: read before its release is signed."""

import json
from pathlib import Path

from common.errors import ReleaseError
from common.files import write_atomic

DECISION_FILE = "gate.json"


def await_decision(run: Path) -> None:
    """Let no release of a run be signed until the gate has decided; a decision stays.

    Raises:
        OSError: if it cannot be written.
    """
    if not (run / DECISION_FILE).exists():
        keep_decision(run, passed=False, cases=0, reason="it has not been judged yet")


def keep_decision(run: Path, *, passed: bool, cases: int, reason: str) -> None:
    """Keep what the gate decided."""
    told = {"passed": passed, "cases": cases, "reason": reason}
    write_atomic(run / DECISION_FILE, json.dumps(told, indent=2).encode() + b"\n")


def check_decision(run: Path) -> None:
    """Refuse to sign what the gate has not passed; a run without a gate has no decision.

    Raises:
        ReleaseError: if it has not passed, or the decision cannot be read.
    """
    try:
        told = json.loads((run / DECISION_FILE).read_bytes())
        passed, reason = told["passed"], str(told["reason"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError):
        passed, reason = False, "its decision cannot be read; run the experiment again"
    if passed is not True:
        raise ReleaseError(f"No release: the gate is not passed: {reason}.", field="gate")
