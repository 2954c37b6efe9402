"""A SuperNode that runs its merchant's own version of the app, and others only if it lists them.

    python -P -m client.privacy.app_guard SHOP [what flower-supernode takes]

-P, because a folder named client where the node is started would hide the package.

An app bundle is code that the operator ships to every node. A check inside it is worth what the
bundle is worth. So this one stands in the SuperNode's own process, in the merchant's installed
fedtail, which fetches bundles and never runs one: it hashes what came, whatever hash was claimed
for it, and a bundle that is neither byte for byte that of the installed fedtail nor among the
policy's `app_digests` is neither kept nor started. The coordinator gets Flower's error for an app
that was not verified. Which bundle runs is said on the merchant's screen.

What it does not protect from is in docs/ref-policy.md.
"""

import os
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from client.privacy.app_guard_command import GUARDED, MARK, guarded_environment
from client.privacy.policy import Policy, read_policy
from common.errors import FedtailError, PolicyError
from common.files import sha256_hex
from common.release.app_bundle import app_digest

_NOBODY = {"nobody": ""}  # whose signatures are asked for where the merchant asked for none
_VERIFIED = "valid_license"  # without this mark SuperNode does not ask whether a bundle is good


def check_guarded(shop: Path) -> None:
    """Refuse to work for a shop whose SuperNode is not guarded.

    This runs inside the bundle: it keeps a merchant from believing in a check that nobody makes. It
    does not stop a bundle that leaves it out; the guard itself does.

    Raises:
        PolicyError: if the node was started without the guard, or guards another shop.
    """
    if os.environ.get(GUARDED) != str(shop.resolve()):
        raise PolicyError(
            "This node was started without `python -P -m client.privacy.app_guard SHOP`, which "
            "checks whose code runs on it; `fedtail client start` starts it so.",
            field="app_digests",
        )


def check_bundle(policy: Policy, content: bytes, claimed: str, installed: str) -> str:
    """Refuse a bundle that is not what its hash says, or neither the merchant's own nor listed.

    Args:
        policy: The merchant's.
        content: The bundle.
        claimed: The SHA-256 that came with it.
        installed: The SHA-256 of the installed version's bundle; empty if unknown.

    Returns:
        What the merchant is told: which bundle runs, and whether it is its own.

    Raises:
        PolicyError: naming the digest.
    """
    digest = sha256_hex(content)
    if digest != claimed:
        raise PolicyError(f"The bundle's SHA-256 is {digest}, not the one told.", field="app")
    policy.check_app(digest, installed)
    if digest == installed:
        return f"App bundle {digest} runs here, the installed version."
    return (
        f"App bundle {digest} runs here, which is NOT the installed version: it is on the "
        "policy's list, and it can read purchases and keys."
    )


def guard(
    supernode: Any, shop: Path, say: Callable[[str], None], installed: str | None = None
) -> None:
    """Put the check before whatever a SuperNode fetches from now on in this process.

    Args:
        supernode: Flower's module `flwr.supernode.start_client_internal`.
        shop: The folder with the policy, which is read again for each run.
        say: Told of each bundle that starts or is refused, and whether it is the installed one.
        installed: SHA-256 of the merchant's own bundle; by default that of the installed fedtail.

    Raises:
        PolicyError: if this version of Flower has no such place; nothing may run then.
    """
    pull, verify = (
        getattr(supernode, name, None) for name in ("_pull_and_store_message", "_verify_fab")
    )
    if pull is None or verify is None:
        raise PolicyError("This version of Flower cannot be guarded.", field="app_digests")
    own = app_digest() if installed is None else installed

    @wraps(pull)
    def guarded_pull(**parts: Any) -> Any:
        fetch, trusted = parts["get_fab"], parts["trusted_entities"]

        def fetch_marked(*arguments: Any) -> Any:
            fab = fetch(*arguments)
            # Flower's own verification by signature, where the merchant asked for it, stays whole.
            marks = fab.verifications if trusted else {_VERIFIED: "by the guard"}
            return replace(fab, verifications=dict(marks))

        parts |= {"get_fab": fetch_marked, "trusted_entities": trusted or _NOBODY}
        return pull(**parts)

    @wraps(verify)
    def guarded_verify(fab: Any, trusted: MutableMapping[str, str]) -> bool:
        try:
            told = check_bundle(read_policy(shop), fab.content, fab.hash_str, own)
        except FedtailError as error:
            say(f"Refused: {error}")
            return False
        say(told)
        return trusted is _NOBODY or bool(verify(fab, trusted))

    supernode._pull_and_store_message = guarded_pull  # noqa: SLF001 - Flower has no public place
    supernode._verify_fab = guarded_verify  # noqa: SLF001 - the same


def _say(line: str) -> None:
    typer.echo(f"{MARK}{line}", err=True)


def main() -> None:
    """Read the policy, guard this process, and be a SuperNode.

    Raises:
        SystemExit: if no folder is named, or its policy is not one.
    """
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(
            "usage: python -P -m client.privacy.app_guard SHOP [what flower-supernode takes]"
        )
    shop = Path(sys.argv.pop(1)).resolve()
    try:
        read_policy(shop)
        from flwr.supernode import start_client_internal as supernode  # noqa: PLC0415 - the app needs none of it

        guard(supernode, shop, _say)
    except FedtailError as error:
        raise SystemExit(f"{error}") from None
    from flwr.supernode.cli import flower_supernode  # noqa: PLC0415 - the same

    os.environ |= guarded_environment(shop)
    flower_supernode()


if __name__ == "__main__":
    main()
