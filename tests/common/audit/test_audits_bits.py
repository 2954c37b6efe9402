"""Every flipped bit is found, and the file it is in is named."""

import random
import re
import shutil

import pytest

from common.audit.audits import audit_ledger, audit_run
from common.audit.layout import JOURNAL, LEDGERS, PUBLIC_KEY, RELEASE
from common.release.manifest import CANARIES_FILE, MANIFEST_FILE, SIGNATURE_FILE, STATEMENT_FILE
from tests.support.forging import files_of, found

MANIFEST = f"{RELEASE}/{MANIFEST_FILE}"
CANARIES = f"{RELEASE}/{CANARIES_FILE}"


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_flipped_bits_are_all_found_and_the_file_is_named(honest, tmp_path, count):
    """Bits drawn over ledgers, journal, statement and the rest of the release."""
    rng = random.Random(20261124)
    folder = shutil.copytree(honest, tmp_path / "run")
    assert audit_run(folder, folder / PUBLIC_KEY).passed
    paths = [path for path in files_of(folder) if path.name != "operator.pub"]
    statement = [folder / MANIFEST, folder / RELEASE / STATEMENT_FILE]
    ledgers = [path for path in paths if path.parent.name == LEDGERS]
    some = count // 5
    drawn = [*paths, *rng.choices(ledgers, k=some), *[folder / JOURNAL] * some]
    drawn += rng.choices(statement, k=some)
    drawn += rng.choices(paths, k=max(0, count - len(drawn)))
    assert len(drawn) >= count
    missed = []
    for path in drawn:
        whole, bit = path.read_bytes(), rng.randrange(path.stat().st_size * 8)
        flip(path, bit)
        report = audit_run(folder, folder / PUBLIC_KEY)
        path.write_bytes(whole)
        files = {one[0] for one in found(report)}
        # The signature covers the manifest: which of the two was altered nobody can tell.
        pair = {MANIFEST, f"{RELEASE}/{SIGNATURE_FILE}"}
        name = path.relative_to(folder).as_posix()
        right = bool(files & (pair if name in pair else {name}))
        if report.passed or not right:
            missed.append((name, bit, sorted(files)))
    assert missed == []


def test_a_flipped_bit_in_an_entry_names_the_entry_and_the_field(honest, tmp_path):
    folder = shutil.copytree(honest, tmp_path / "run")
    for path in (next((folder / LEDGERS).iterdir()), folder / JOURNAL):
        whole = path.read_bytes()
        lines = whole.split(b"\n")
        digit = re.search(rb'round_number\\":(\d)', lines[1])
        lines[1] = lines[1][: digit.start(1)] + b"7" + lines[1][digit.end(1) :]
        path.write_bytes(b"\n".join(lines))
        name = path.relative_to(folder).as_posix()
        assert (name, 2, "hash") in found(audit_run(folder, folder / PUBLIC_KEY))
        path.write_bytes(whole)


@pytest.mark.parametrize("which", ["signature", "hash"])
def test_capitals_in_hex_are_a_change_like_any_other(honest, tmp_path, which):
    path = shutil.copy(next((honest / LEDGERS).iterdir()), tmp_path / "ledger.jsonl")
    text = path.read_text("utf-8")
    value = re.search(rf'"{which}":"([0-9a-f]+)"', text)[1]
    path.write_text(text.replace(f'"{which}":"{value}"', f'"{which}":"{value.upper()}"'), "utf-8")
    assert found(audit_ledger(path, delta=1e-3)) == [("ledger.jsonl", 1, which)]
