"""The folder of a simulation: taken only if it is ours, emptied only on request."""

import shutil
from pathlib import Path

from client.privacy.budget import LEDGER_FILE
from common.errors import InputError
from common.files import sha256_hex, write_atomic
from common.privacy.ledger.export import export_ledger
from simulations.federation.refresh import merchants_of
from simulations.options import SimulationOptions

MARKER = ".fedtail-simulation"
EARLIER_LEDGERS = "earlier-ledgers"  # of simulations that --overwrite has removed


def prepare_out(options: SimulationOptions) -> None:
    """Make the output folder, or take one that holds a simulation of ours.

    Raises:
        InputError: if the folder holds something else, or the run whose season is taken anew, or
            its merchants; nothing of it is touched.
        LedgerError: as `_keep_ledgers`.
    """
    out = options.out
    if out.exists() and not (out / MARKER).exists() and any(out.iterdir()):
        raise InputError(
            f"--out {out} holds files that are not a simulation's; choose another folder.",
            field="out",
        )
    of = options.refresh_of
    if of is not None and out.resolve() in {of.resolve(), merchants_of(of).parent.resolve()}:
        raise InputError(
            f"--out {out} is a run that the refresh goes on with; choose another folder.",
            field="out",
        )
    if options.overwrite and (out / MARKER).exists():
        _keep_ledgers(out)
        for path in out.iterdir():
            if path.name not in {MARKER, EARLIER_LEDGERS}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def _keep_ledgers(out: Path) -> None:
    """Keep what the merchants' ledgers say, as text, before their folders go.

    The merchants are made up, and so are their budgets: the next simulation starts with new ones.
    But where the purchases are real, what was spent on them is still a fact.

    Raises:
        LedgerError: if a ledger cannot be read or trusted; nothing is removed then.
    """
    for path in sorted(out.glob(f"merchants/*/node/{LEDGER_FILE}")):
        content = export_ledger(path)
        name = f"{path.parent.parent.name}-{sha256_hex(content)[:16]}.jsonl"
        write_atomic(out / EARLIER_LEDGERS / name, content)
