"""The digest of the code: of each source file of node and server, and of no other."""

import shutil
import subprocess
import sys
from pathlib import Path

from common.release.code_digest import code_digest

ROOT = Path(__file__).parents[3]
ASK = "from common.release.code_digest import code_digest; print(code_digest())"


def digest_in(folder):
    ran = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


def test_a_copy_elsewhere_has_the_same_digest_and_a_changed_one_another(tmp_path):
    for room in ("client", "common", "server"):
        shutil.copytree(ROOT / room, tmp_path / room)
    assert digest_in(tmp_path) == code_digest()
    (tmp_path / "client" / "notes.txt").write_text("not code", "utf-8")
    assert digest_in(tmp_path) == code_digest()
    changed = tmp_path / "client" / "app.py"
    changed.write_text(changed.read_text("utf-8") + "\n", "utf-8")
    once = digest_in(tmp_path)
    assert once != code_digest()
    changed.rename(changed.with_name("door.py"))
    assert digest_in(tmp_path) not in {once, code_digest()}
