"""Whom a node without an authority takes for a merchant: a name belongs to its first key.

With an authority: `test_introduction.py`.
"""

import json

import pytest

from client.node.identities import PINNED_FILE, checked_identities
from common.errors import SecureSumError
from common.files import PRIVATE_MODE
from common.identity.introduction import Introduction
from common.identity.signing_key import SigningKey


def introduced(*names):
    return [Introduction(name, SigningKey.in_memory().public.raw) for name in names]


@pytest.fixture
def known(tmp_path):
    """What a node says to introductions, by way of its folder alone."""

    def ask(*introductions):
        found = checked_identities(tmp_path, tmp_path, introductions)
        return {name: key.raw for name, key in found.items()}

    return ask


def refused(field, known, *introductions):
    with pytest.raises(SecureSumError) as caught:
        known(*introductions)
    assert caught.value.public() == f"secure_sum:{field}"


def test_a_name_that_comes_with_another_key_is_refused_for_good(known, tmp_path):
    ash, birch = introduced("ash", "birch")
    assert known(ash, birch) == {"ash": ash.key, "birch": birch.key}
    (other,) = introduced("ash")
    (cedar,) = introduced("cedar")
    refused("identity", known, other, birch, cedar)
    assert json.loads((tmp_path / PINNED_FILE).read_text()).keys() == {"ash", "birch"}
    assert (tmp_path / PINNED_FILE).stat().st_mode & 0o777 == PRIVATE_MODE
    assert known(cedar)["cedar"] == cedar.key  # one alone, and the others are not forgotten
    refused("identity", known, other)
    assert known(ash, birch, cedar).keys() == {"ash", "birch", "cedar"}


def test_nobody_is_two_parties(known):
    ash, birch = introduced("ash", "birch")
    refused("identity", known, ash, ash)
    refused("identity", known, ash, birch, Introduction("ash", birch.key))
    refused("identity", known, ash, Introduction("cedar", ash.key))


def test_names_that_cannot_be_read_are_nobodys(known, tmp_path):
    """Not taken for an empty list: each name would belong to whoever comes next."""
    (ash,) = introduced("ash")
    known(ash)
    (tmp_path / PINNED_FILE).write_text("{")
    refused("state", known, ash)
