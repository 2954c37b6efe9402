"""No altered, incomplete, extended, foreign or replayed release is ever accepted."""

import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from common.errors import ReleaseError
from common.identity.signing_key import SigningKey
from common.release import verify
from common.release.build import build_release
from common.release.manifest import ADAPTER_FILE, BASIS_FILE
from common.release.verify import VerifiedRelease, verify_release, version_order
from tests.common.release.test_manifest import FILES, claims


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return SigningKey.create(tmp_path_factory.mktemp("keys") / "operator.pem")


@pytest.fixture(scope="module")
def built(tmp_path_factory, key):
    folder = tmp_path_factory.mktemp("built") / "release"
    content = {**FILES, ADAPTER_FILE: bytes(range(256)) * 8, BASIS_FILE: os.urandom(999)}
    build_release(folder, content, claims(), key)
    return folder


@pytest.fixture
def release(tmp_path, built):
    return shutil.copytree(built, tmp_path / "release")


def resign(folder, key, change):
    """Sign an altered manifest: what a careless or hostile operator could do."""
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_bytes(key.sign(content))


def test_a_whole_release_is_accepted_and_its_bytes_returned(release, key):
    verified = verify_release(release, key.public)
    assert set(verified.files) == set(FILES)
    for name, content in verified.files.items():
        assert content == (release / name).read_bytes()
    assert verified.manifest.version == "2026.11.24"


def test_two_hundred_flipped_bits_are_all_refused(release, key):
    """Bits drawn over all files, and every file gets at least one."""
    paths = sorted(path for path in release.rglob("*") if path.is_file())
    rng = random.Random(20261124)
    places = [(path, rng.randrange(path.stat().st_size * 8)) for path in paths]
    lengths = [path.stat().st_size for path in paths]
    more = rng.choices(paths, weights=lengths, k=200 - len(paths))
    places.extend((path, rng.randrange(path.stat().st_size * 8)) for path in more)
    assert len(places) == 200
    for path, bit in places:
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(ReleaseError):
            verify_release(release, key.public)
        path.write_bytes(whole)
    verify_release(release, key.public)  # all was put back, so each refusal was the bit's


def test_each_part_of_the_signature_counts(release, key):
    path = release / "manifest.sig"
    whole = path.read_bytes()
    for bit in range(0, len(whole) * 8, 3):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(ReleaseError, match=r"manifest\.sig"):
            verify_release(release, key.public)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "manifest.sig"])
@pytest.mark.parametrize(
    "how", ["truncated", "longer", "missing", "link", "folder", "pipe", "empty"]
)
def test_a_file_that_is_not_itself_is_refused(release, key, name, how):
    path = release / name
    whole = path.read_bytes()
    path.unlink()
    match how:
        case "truncated":
            path.write_bytes(whole[:-1])
        case "longer":
            path.write_bytes(whole + b"\n")
        case "link":
            (release.parent / "elsewhere").write_bytes(whole)
            path.symlink_to(release.parent / "elsewhere")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "missing":
            pass
    with pytest.raises(ReleaseError) as caught:
        verify_release(release, key.public)
    assert name.rsplit("/", maxsplit=1)[-1] in str(caught.value) or "manifest.sig" in str(
        caught.value
    )


@pytest.mark.parametrize(
    "extra", ["evil.py", ".hidden", "adapter/evil.bin", "adapter/more/x", "empty/", "\x1b[31mred"]
)
def test_an_extra_file_or_folder_is_refused(release, key, extra):
    path = release / extra
    path.parent.mkdir(parents=True, exist_ok=True)
    if extra.endswith("/"):
        path.mkdir()
    else:
        path.write_bytes(b"x")
    with pytest.raises(ReleaseError, match=r"not named in manifest\.json") as caught:
        verify_release(release, key.public)
    assert "\x1b" not in str(caught.value)


def test_an_extra_link_is_refused_even_to_a_named_folder(release, key):
    (release / "again").symlink_to(release / "adapter")
    with pytest.raises(ReleaseError, match="'again' is not named"):
        verify_release(release, key.public)


def test_a_folder_replaced_by_a_link_is_refused(release, key):
    (release / "adapter").rename(release.parent / "elsewhere")
    (release / "adapter").symlink_to(release.parent / "elsewhere")
    with pytest.raises(ReleaseError, match="adapter"):
        verify_release(release, key.public)


def test_a_link_made_after_the_listing_is_refused_too(release, key, monkeypatch):
    monkeypatch.setattr(verify, "_check_listing", lambda _root, _manifest: None)
    (release / "adapter").rename(release.parent / "elsewhere")
    (release / "adapter").symlink_to(release.parent / "elsewhere")
    with pytest.raises(ReleaseError, match="'adapter' is a link"):
        verify_release(release, key.public)


@pytest.mark.parametrize(
    ("name", "message"),
    [("STATEMENT.md", "has 11 bytes, the manifest says 12"), ("manifest.sig", "63 bytes, not 64")],
)
def test_a_short_file_is_told_from_an_altered_one(release, key, name, message):
    path = release / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReleaseError, match=message):
        verify_release(release, key.public)


def test_a_renamed_file_is_refused(release, key):
    (release / "STATEMENT.md").rename(release / "statement.txt")
    with pytest.raises(ReleaseError, match=r"statement\.txt"):
        verify_release(release, key.public)


def test_two_files_swapped_are_refused(release, key):
    one, other = release / "STATEMENT.md", release / "basis.safetensors"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(ReleaseError, match=r"basis\.safetensors|STATEMENT\.md"):
        verify_release(release, key.public)


def test_another_key_is_refused_and_named(tmp_path, release, key):
    other = SigningKey.create(tmp_path / "other.pem")
    with pytest.raises(ReleaseError, match=other.public.key_id[:16]):
        verify_release(release, other.public)
    manifest = (release / "manifest.json").read_bytes()
    (release / "manifest.sig").write_bytes(other.sign(manifest))
    with pytest.raises(ReleaseError, match=key.public.key_id[:16]):
        verify_release(release, key.public)


def test_a_manifest_that_names_another_key_is_refused(release, key):
    resign(release, key, lambda d: d.update(signing_key="0" * 64))
    with pytest.raises(ReleaseError, match="names the signing key 0000"):
        verify_release(release, key.public)


def test_the_signature_is_checked_before_the_manifest_is_read(release, key, monkeypatch):
    def never(_content):
        raise AssertionError("the manifest was read before its signature was checked")

    monkeypatch.setattr(verify, "parse_manifest", never)
    (release / "manifest.json").write_bytes(b"{}")
    with pytest.raises(ReleaseError, match=r"manifest\.sig"):
        verify_release(release, key.public)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/hostname", "adapter/../../elsewhere"])
def test_a_signed_path_out_of_the_folder_is_refused(release, key, name):
    (release.parent / "elsewhere").write_bytes(b"secret")
    record = {"size": 6, "sha256": "0" * 64}
    resign(release, key, lambda d: d["files"].update({name: record}))
    with pytest.raises(ReleaseError, match="not a plain relative path"):
        verify_release(release, key.public)


def test_a_file_too_large_is_refused_without_being_read_whole(release, key):
    with (release / "STATEMENT.md").open("wb") as file:
        file.truncate(1 << 36)  # 64 GiB, sparse: reading it whole would end the test run
    with pytest.raises(ReleaseError, match=r"STATEMENT\.md' has more than"):
        verify_release(release, key.public)
    with (release / "manifest.json").open("wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(ReleaseError, match=r"manifest\.json' has more than"):
        verify_release(release, key.public)


def test_another_format_version_is_refused(release, key):
    resign(release, key, lambda d: d.update(format_version=2))
    with pytest.raises(ReleaseError, match="format_version 2; this fedtail reads 1"):
        verify_release(release, key.public)


@pytest.mark.parametrize(
    ("minimum", "accepted"),
    [
        ("2026.11.24", True),
        ("2026.11.24.0", True),
        ("2026.11.3", True),
        ("1", True),
        ("2026.11.25", False),
        ("2026.11.24.1", False),
        ("2027", False),
        ("2026.100", False),
    ],
)
def test_a_replayed_older_release_is_refused(release, key, minimum, accepted):
    if accepted:
        assert verify_release(release, key.public, not_older_than=minimum)
    else:
        with pytest.raises(ReleaseError, match=f"older than {minimum}"):
            verify_release(release, key.public, not_older_than=minimum)


def test_a_minimum_that_is_no_version_is_an_error(release, key):
    with pytest.raises(ReleaseError, match="not a version"):
        verify_release(release, key.public, not_older_than="latest")


def test_versions_are_compared_number_by_number():
    versions = ["0", "0.0.1", "0.9", "0.10", "1", "1.0.1", "1.2", "1.10", "2", "10"]
    assert sorted(versions, key=version_order) == versions
    assert version_order("1") == version_order("1.0.0")


def test_only_verify_release_makes_a_verified_release(release, key):
    verified = verify_release(release, key.public)
    with pytest.raises(TypeError, match="verify_release or verify_by_digest only"):
        VerifiedRelease(verified.manifest, verified.files, object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(verified, files={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        verified.files = {}
    with pytest.raises(TypeError):
        verified.files["STATEMENT.md"] = b"other"


def test_bytes_changed_after_the_check_do_not_reach_the_caller(release, key, monkeypatch):
    """Each file is read once, and what was hashed is what comes back."""
    good = {name: (release / name).read_bytes() for name in FILES}
    real = verify.sha256_hex

    def hashing_then_altering(content):
        digest = real(content)
        for name in FILES:
            (release / name).write_bytes(b"altered after the check of another file" * 99)
        return digest

    monkeypatch.setattr(verify, "sha256_hex", hashing_then_altering)
    with pytest.raises(ReleaseError):  # the second file differs already when it is read
        verify_release(release, key.public)
    for name, content in good.items():
        (release / name).write_bytes(content)

    def hashing_then_altering_the_same(content):
        digest = real(content)
        for name, whole in good.items():
            if whole == content:
                (release / name).write_bytes(b"altered")
        return digest

    monkeypatch.setattr(verify, "sha256_hex", hashing_then_altering_the_same)
    assert dict(verify_release(release, key.public).files) == good


def test_a_link_to_the_folder_is_followed(tmp_path, release, key):
    (tmp_path / "current").symlink_to(release)
    assert verify_release(tmp_path / "current", key.public)


def test_a_folder_that_is_none_is_named(tmp_path, key):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ReleaseError, match=path.name):
            verify_release(path, key.public)


def test_verifying_leaves_no_descriptor_open(release, key):
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("this system does not list open files in /proc")
    before = len(list(opened.iterdir()))
    verify_release(release, key.public)
    shutil.rmtree(release / "adapter")
    with pytest.raises(ReleaseError):
        verify_release(release, key.public)
    assert len(list(opened.iterdir())) == before
