import json

import pytest

from client.serving.keys import Keys
from common.errors import InputError


def test_a_key_is_kept_as_a_hash_for_its_owner_alone(tmp_path):
    path = tmp_path / "keys.json"
    key = Keys(path).new("shop page", ["serve", "events", "serve"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.split("_", 2)[2] not in path.read_text()
    found = Keys(path).find(key)
    assert (found.name, found.scopes) == ("shop page", ("serve", "events"))


def test_only_the_whole_key_is_valid(tmp_path):
    keys = Keys(tmp_path / "keys.json")
    key, other = (keys.new(name, ["serve"]) for name in ("one", "two"))
    mixed = key[:12] + other[12:]
    for wrong in ("", key[:-1], key + "x", key[:12], mixed, key.upper(), "ft__", "\ud800"):
        assert keys.find(wrong) is None
    assert keys.find(key).name == "one"


def test_a_revoked_key_is_gone_in_another_process_too(tmp_path):
    serving, command = Keys(tmp_path / "keys.json"), Keys(tmp_path / "keys.json")
    key = command.new("one", ["serve"])
    kept = command.new("two", ["serve"])
    assert serving.find(key)
    command.revoke(serving.find(key).key_id)
    assert serving.find(key) is None
    assert serving.find(kept)
    with pytest.raises(InputError):
        command.revoke("00000000")


@pytest.mark.parametrize(("name", "scopes"), [("", ["serve"]), ("x", []), ("x", ["all"])])
def test_a_key_needs_a_name_and_a_scope(tmp_path, name, scopes):
    with pytest.raises(InputError):
        Keys(tmp_path / "keys.json").new(name, scopes)
    assert not (tmp_path / "keys.json").exists()


def test_a_file_that_others_can_read_or_that_is_none_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    Keys(path).new("one", ["serve"])
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        Keys(path).all()
    path.chmod(0o600)
    for content in ("", "{}", json.dumps({"keys": [{"key_id": "1"}]})):
        path.write_text(content)
        with pytest.raises(InputError):
            Keys(path).all()
