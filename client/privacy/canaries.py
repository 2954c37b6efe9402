"""The canaries of this node's runs, one file a run, in the node's state folder.

The file is written before an update leaves and read again by the next process, so a restarted node
goes on with the bits it has committed to. Until it is revealed it is for its owner only.
"""

import re
from pathlib import Path

from common.files import PRIVATE_MODE, sha256_hex, write_atomic
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord, start_record
from common.privacy.mechanism.noise import NoiseSource

FOLDER = "audits"
_NAME = re.compile(r"run-(-?\d+)-(\d+)\.safetensors")


class CanaryBook:
    """All records of one merchant's node."""

    def __init__(self, state: Path, merchant: str) -> None:
        """Keep records below `state`, the node's folder."""
        self._folder, self._merchant = state / FOLDER, merchant

    def current(
        self, plan: PrivacyPlan, run_id: int, canaries: int, seed: int | None = None
    ) -> CanaryRecord | None:
        """Return the run's record, revealed or not, or start one; None where nothing is audited.

        Args:
            plan: The run's. `central` noise is not audited, and `none` promises nothing. Where it
                is `distributed` the record is not added to: what the canaries show is in the sums.
            run_id: The run.
            canaries: m; 0 is no audit.
            seed: Of the bits, in a run that is declared a test; None takes secret ones.

        Raises:
            PrivacyError: if the record on disk is not one.
        """
        if not canaries or plan.dp_model not in {"local", "distributed"}:
            return None
        held = self._read(plan, run_id)
        return held or self._start(plan, run_id, canaries, seed)

    def to_train(
        self, plan: PrivacyPlan, run_id: int, canaries: int, seed: int | None = None
    ) -> CanaryRecord | None:
        """Return the record that takes the next steps: a new one where the last is revealed.

        Its commitment was not told before then, so the coordinator will not count it. This
        happens only where a run that has ended is trained again under its number.

        Raises:
            PrivacyError: as `current`.
        """
        record = self.current(plan, run_id, canaries, seed)
        if record is not None and record.revealed:
            return self._start(plan, run_id, canaries, seed)
        return record

    def open(
        self, plan: PrivacyPlan, run_id: int, canaries: int, seed: int | None = None
    ) -> CanaryRecord | None:
        """Open the run's record for good, on disk first, and return it.

        Raises:
            PrivacyError: as `current`.
        """
        record = self.current(plan, run_id, canaries, seed)
        if record is not None and not record.revealed:
            record = record.open()
            self.save(record)
        return record

    def save(self, record: CanaryRecord) -> None:
        """Put the run's latest record on disk, in the place of what it grew from.

        A power cut may cost the last step, which is then charged and not audited.
        """
        path = self._paths(int(record.run_id))[-1]
        write_atomic(path, record.to_bytes(), mode=PRIVATE_MODE, sync_name=record.revealed)

    def _start(
        self, plan: PrivacyPlan, run_id: int, canaries: int, seed: int | None
    ) -> CanaryRecord:
        number = len(self._paths(run_id)) + 1
        orders = None
        if seed is None:
            source = NoiseSource.secure()
        else:  # a test trains the same adapter again, whatever bits it has the second time
            source = NoiseSource.for_tests(seed, self._merchant, "canary bits", number)
            orders = NoiseSource.for_tests(seed, self._merchant, "canary orders")
        record = start_record(self._merchant, str(run_id), plan, canaries, source, orders=orders)
        path = self._folder / f"run-{run_id}-{number}.safetensors"
        write_atomic(path, record.to_bytes(), mode=PRIVATE_MODE)
        return record

    def _read(self, plan: PrivacyPlan, run_id: int) -> CanaryRecord | None:
        paths = self._paths(run_id)
        if not paths:
            return None
        record = CanaryRecord.from_bytes(paths[-1].read_bytes())
        return record if sha256_hex(record.plan.encode()) == plan.digest else None

    def _paths(self, run_id: int) -> list[Path]:
        """Return the run's files, oldest first."""
        if not self._folder.exists():
            return []
        found = [(_NAME.fullmatch(path.name), path) for path in self._folder.iterdir()]
        numbered = [(int(m[2]), path) for m, path in found if m and int(m[1]) == run_id]
        return [path for _, path in sorted(numbered)]
