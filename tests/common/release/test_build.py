"""Keys are kept for their owner only, and a release folder appears whole or not at all."""

import os
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from common.errors import ReleaseError
from common.identity.signing_key import PublicKey, SigningKey
from common.release import build
from common.release.build import build_release, make_manifest, sign_release
from common.release.verify import verify_release
from tests.common.release.test_manifest import FILES, claims


@pytest.fixture
def key(tmp_path):
    return SigningKey.create(tmp_path / "keys" / "operator.pem")


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_key_is_written_for_its_owner_only_and_read_back(tmp_path, key):
    path = tmp_path / "keys" / "operator.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert SigningKey.load(path).public == key.public
    assert names(path.parent) == ["operator.pem"]


def test_a_key_is_never_overwritten(tmp_path, key):
    path = tmp_path / "keys" / "operator.pem"
    before = path.read_bytes()
    with pytest.raises(ReleaseError, match="exists already"):
        SigningKey.create(path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["operator.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o611])
def test_a_key_that_others_can_use_is_refused(tmp_path, key, mode):
    path = tmp_path / "keys" / "operator.pem"
    path.chmod(mode)
    with pytest.raises(ReleaseError, match=f"mode {mode:o}.*must be 600"):
        SigningKey.load(path)


def test_what_is_no_signing_key_is_refused(tmp_path, key):
    path = tmp_path / "other.pem"
    curve = ec.generate_private_key(ec.SECP256R1())
    whole = load_pem_private_key((tmp_path / "keys" / "operator.pem").read_bytes(), None)
    locked = whole.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"p"))
    for content in (
        b"",
        b"not a key",
        key.public.to_pem(),
        locked,
        curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ReleaseError, match="not an unencrypted Ed25519"):
            SigningKey.load(path)
    with pytest.raises(ReleaseError, match="cannot be read"):
        SigningKey.load(tmp_path / "absent.pem")


def test_a_public_key_is_a_pem_file(tmp_path, key):
    key.public.save(tmp_path / "operator.pub.pem")
    assert PublicKey.load(tmp_path / "operator.pub.pem") == key.public
    assert len(key.public.key_id) == 64
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (b"", b"rubbish", pem):
        with pytest.raises(ReleaseError, match="not an Ed25519 public key"):
            PublicKey.from_pem(content)
    with pytest.raises(ReleaseError, match="cannot be read"):
        PublicKey.load(tmp_path / "absent.pem")


def test_a_key_does_not_print_its_secret(tmp_path, key):
    secret = (tmp_path / "keys" / "operator.pem").read_text().splitlines()[1]
    assert secret not in repr(key)
    assert repr(key) == "SigningKey()"


def test_openssl_accepts_the_signature(tmp_path, key):
    """An independent implementation reads our key and our signature."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command on this machine")
    folder = tmp_path / "release"
    build_release(folder, FILES, claims(), key)
    key.public.save(tmp_path / "public.pem")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "public.pem"]
    command += ["-rawin", "-in", folder / "manifest.json", "-sigfile", folder / "manifest.sig"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (folder / "manifest.json").write_bytes(b"{}")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_release_holds_exactly_its_files(tmp_path, key):
    manifest = build_release(tmp_path / "release", FILES, claims(), key)
    assert names(tmp_path / "release") == sorted([*FILES, "manifest.json", "manifest.sig"])
    assert (tmp_path / "release" / "manifest.json").read_bytes() == manifest.to_bytes()
    assert len((tmp_path / "release" / "manifest.sig").read_bytes()) == 64
    assert {path.name for path in tmp_path.iterdir()} == {"keys", "release"}
    assert os.access(tmp_path / "release", os.R_OK)


def test_an_existing_release_is_not_touched(tmp_path, key):
    folder = tmp_path / "release"
    first = build_release(folder, FILES, claims(), key)
    with pytest.raises(ReleaseError, match="exists already"):
        build_release(folder, FILES, claims(version="2027"), key)
    assert verify_release(folder, key.public).manifest == first
    second = build_release(folder, FILES, claims(version="2027"), key, replace=True)
    assert verify_release(folder, key.public).manifest == second
    assert {path.name for path in tmp_path.iterdir()} == {"keys", "release"}


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("good_writes", range(7))
def test_a_failure_at_any_write_leaves_no_half_release(
    tmp_path, key, monkeypatch, good_writes, replace
):
    folder = tmp_path / "release"
    first = build_release(folder, FILES, claims(), key) if replace else None
    done = []

    def failing(path, content, **rest):
        if len(done) == good_writes:
            raise OSError("disk full")
        done.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(build, "write_atomic", failing)
    if good_writes == 6:  # all six files are written; now the rename fails
        good = type(folder).rename

        def rename(self, target):
            if self.name == "new":
                raise OSError("no rename")
            return good(self, target)

        monkeypatch.setattr(type(folder), "rename", rename)
    with pytest.raises(OSError, match=r"disk full|no rename"):
        build_release(folder, FILES, claims(version="2027"), key, replace=replace)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({"keys", "release"} if replace else {"keys"})
    if replace:
        assert verify_release(folder, key.public).manifest == first


def test_a_manifest_for_another_key_is_not_signed(tmp_path, key):
    other = SigningKey.create(tmp_path / "other.pem")
    manifest = make_manifest(FILES, claims(), other.public)
    with pytest.raises(ReleaseError, match="names the signing key"):
        sign_release(tmp_path, manifest, key)


def test_a_manifest_too_large_to_be_read_is_not_signed(tmp_path, key):
    long = claims(catalogues={f"catalogue-{one}": "a" * 64 for one in range(15_000)})
    with pytest.raises(ReleaseError, match="at most 1048576"):
        build_release(tmp_path / "release", FILES, long, key)
    assert not (tmp_path / "release").exists()
