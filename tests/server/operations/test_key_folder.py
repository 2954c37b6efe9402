"""Keys lie for their owner only, under a passphrase if there is one, and no old one is lost."""

import stat
from datetime import UTC, datetime

import pytest

from common.errors import EnrolmentError, ReleaseError, SettingsError
from server.operations.certificates import Authority, fingerprint
from server.operations.key_folder import FEDERATION_KEYS, SHARED_KEYS, KeyFolder, Passphrase

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALL = (*SHARED_KEYS, *FEDERATION_KEYS)


@pytest.fixture
def folder(tmp_path):
    made = KeyFolder(tmp_path / "keys", "main")
    made.make(NOW)
    return made


def opened(folder, secret):
    asked = []

    def ask():
        asked.append(1)
        return secret

    return KeyFolder(folder.root, folder.federation, Passphrase(ask)), asked


def ids(folder):
    return {name: folder.load(name).public.key_id for name in ALL}


def test_files_are_for_their_owner_only(folder):
    files = [path for path in folder.root.rglob("*") if path.is_file() and path.suffix == ".key"]
    assert len(files) == len(ALL) + 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder.root, folder.root / "main")} == {
        0o700
    }


def test_made_again_nothing_is_replaced_and_another_federation_shares_two_keys(folder):
    before, authority = ids(folder), folder.authority_key.read_bytes()
    folder.make(NOW)
    assert (ids(folder), folder.authority_key.read_bytes()) == (before, authority)
    other = KeyFolder(folder.root, "other")
    other.make(NOW)
    assert {name for name in ALL if ids(other)[name] == before[name]} == set(SHARED_KEYS)


@pytest.mark.parametrize("secret", [b"", b"correct horse"])
def test_a_folder_that_was_cut_short_between_key_and_certificate_is_made_whole(tmp_path, secret):
    """The certificate is made over the key that is there, which stays, byte for byte."""
    folder = KeyFolder(tmp_path / "keys", "main")
    folder.make(NOW, secret)
    folder.authority_certificate.unlink()
    key = folder.authority_key.read_bytes()
    folder.make(NOW, secret)
    assert folder.authority_key.read_bytes() == key
    made = opened(folder, secret)[0].authority().certificate
    made.verify_directly_issued_by(made)
    whole = Authority.create(NOW).certificate
    assert made.subject == whole.subject
    assert made.not_valid_after_utc == whole.not_valid_after_utc
    assert [one.oid for one in made.extensions] == [one.oid for one in whole.extensions]


def test_a_passphrase_is_asked_for_once_and_no_file_opens_without_it(tmp_path):
    plain = KeyFolder(tmp_path / "keys", "main")
    plain.make(NOW, b"correct horse")
    for path in plain.root.rglob("*.key"):
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    held, asked = opened(plain, b"correct horse")
    ids(held)
    held.authority()
    assert len(asked) == 1
    for wrong in (plain, opened(plain, b"battery")[0]):
        with pytest.raises(ReleaseError, match="signing key"):
            wrong.load("root")
        with pytest.raises(EnrolmentError, match="passphrase"):
            wrong.authority()


def test_no_passphrase_is_asked_for_where_none_is_needed(folder):
    held, asked = opened(folder, b"")
    ids(held)
    assert asked == []


def test_a_new_key_is_as_its_elder(tmp_path):
    plain = KeyFolder(tmp_path / "keys", "main")
    plain.make(NOW, b"secret")
    held, _ = opened(plain, b"secret")
    old = held.load("root")
    held.pair("root").successor(held.passphrase)
    held.pair("root").promote(old)
    old_authority = held.authority()
    held.next_authority(NOW)
    held.promote_authority(fingerprint(old_authority.certificate))
    for path in plain.root.rglob("*.key"):
        assert b"ENCRYPTED" in path.read_bytes(), path


def test_a_successor_waits_until_it_is_promoted_and_the_old_key_is_kept(folder):
    pair, old = folder.pair("release"), folder.load("release")
    new = pair.successor(None)
    assert pair.successor(None).public == new.public  # a rotation that was cut short
    assert folder.load("release").public == old.public
    pair.promote(old)
    assert folder.load("release").public == new.public
    assert not pair.new.exists()
    (kept,) = (folder.root / "main" / "retired").iterdir()
    assert kept.name == f"release.{old.public.key_id[:16]}.key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ALL)
def test_a_key_that_others_can_read_is_refused(folder, name):
    folder.pair(name).path.chmod(0o640)
    with pytest.raises(ReleaseError, match="640"):
        folder.load(name)


def test_a_folder_without_keys_says_how_to_make_them(tmp_path):
    with pytest.raises(SettingsError, match="keys new"):
        KeyFolder(tmp_path, "main").load("root")
    with pytest.raises(SettingsError, match="keys new"):
        KeyFolder(tmp_path, "main").authority()


def test_an_authority_of_two_halves_that_do_not_belong_together_signs_nothing(folder):
    Authority.create(NOW).save(folder.authority_key, folder.root / "other.crt")
    with pytest.raises(EnrolmentError, match="is not the key of"):
        folder.authority()
