"""Look at a node's shop before it connects, in a process of its own that gives its memory back."""

import subprocess
import sys
from pathlib import Path

from common.errors import FedtailError, InputError


def require_shop(data: Path) -> None:
    """Refuse a shop that leaves nobody to learn from or to choose by.

    It is asked before the node knocks anywhere: an answer to a server may depend on public facts
    alone, and this one depends on shoppers.

    Raises:
        InputError: saying what there is too little of, or that the data set cannot be read.
    """
    line = [sys.executable, "-P", "-m", "client.deployment.shop_check", str(data.resolve())]
    done = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        raise InputError(why[0], field="split")


def main() -> None:
    """Check the shop named on the command line.

    Raises:
        SystemExit: saying what is wrong, on the merchant's own machine.
    """
    from client.shop.dataset import load_merchant_data  # noqa: PLC0415 - the starter reads no table
    from client.shop.splitting import (  # noqa: PLC0415 - the same
        require_enough,
        split_interactions,
    )

    try:
        data = load_merchant_data(Path(sys.argv[1]))
        require_enough(split_interactions(data.interactions, data.split_rule), to_test=False)
    except FedtailError as error:
        raise SystemExit(f"{error}") from None


if __name__ == "__main__":
    main()
