"""Hold the revealed canaries to the updates that they were noised with, by each node's own seal.

A node signs, beside the digest of an update, a seal over what its canaries showed in those steps
(`CanaryRecord.seal`). Canaries that somebody invented, took from another run, or measured where the
adapter got other noise, belong to other updates, so no seal is over them.
"""

import numpy as np
from numpy.typing import NDArray

from common.audit.findings import Checklist, Marks
from common.audit.layout import RELEASE
from common.audit.rebuilt import Place
from common.errors import PrivacyError
from common.privacy.ledger.contributions import Contribution
from common.privacy.mechanism.canaries import CanaryRecord, unpack_records
from common.release.manifest import CANARIES_FILE
from common.release.verify import VerifiedRelease

Signed = dict[Place, dict[str, Contribution]]  # and by merchant
Vectors = dict[Place, dict[str, NDArray[np.float32]]]

_FILE = f"{RELEASE}/{CANARIES_FILE}"


def check_seals(
    sheet: Checklist, release: VerifiedRelease, signed: Signed, vectors: Vectors
) -> None:
    """Check each update's seal against the canaries that the release shows.

    Args:
        sheet: Takes the findings.
        release: Verified.
        signed: What each node signed, its signatures checked.
        vectors: Of the rounds whose vectors are those that were signed.
    """
    with sheet.check("Canaries: each update was sealed with those shown", _FILE) as marks:
        content = release.files.get(CANARIES_FILE)
        records = {} if content is None else unpack_records(content)
        sealed: dict[str, int] = {}
        for number in sorted(number for kind, number in vectors if kind == "train"):
            place = ("train", number)
            for name, one in sorted(signed[place].items()):
                record = records.get(name)
                fault = _fault(one, record, vectors[place][name])
                if fault:
                    marks.wrong("seal", f"{name!r}, round {number}: {fault}")
                elif record is not None and one.purpose.run_id == record.run_id:
                    sealed[name] = sealed.get(name, 0) + 1
        _tell(marks, records, sealed, signed)


def _fault(one: Contribution, record: CanaryRecord | None, vector: NDArray[np.float32]) -> str:
    """Return what is wrong with one update's seal; empty where nothing is."""
    if record is None:
        return "its canaries were sealed and are not shown." if one.seal else ""
    if one.purpose.run_id != record.run_id:
        return ""  # a run that was resumed under another number had other canaries then
    if not one.seal:
        return "no canaries were sealed with its update."
    try:
        same = record.seal(vector) == one.seal
    except PrivacyError:
        return "the canaries shown are bound to other updates than this one."
    return "" if same else "the canaries shown are not those that were sealed with its update."


def _tell(
    marks: Marks, records: dict[str, CanaryRecord], sealed: dict[str, int], signed: Signed
) -> None:
    """Say how many were checked; canaries of which no update is sealed prove nothing."""
    marks.says(f"{sum(sealed.values())} updates sealed")
    part = {name for (kind, _), row in signed.items() if kind == "train" for name in row}
    for name in sorted(set(records) & part - sealed.keys()):
        marks.wrong("seal", f"{name!r}: no update of the adapter was sealed with its canaries.")
    all_of = sum(len(row) for (kind, _), row in signed.items() if kind == "train")
    if records and sealed and sum(sealed.values()) < all_of:
        marks.note("some updates came before the canaries shown, or have none")
