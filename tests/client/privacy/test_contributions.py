"""The node's own record of what it sent: on disk before it leaves, whole lines only."""

import numpy as np
import pytest

from client.privacy.contributions import (
    contributions_path,
    keep_contribution,
    kept_contributions,
    sign_contribution,
)
from common.errors import LedgerError
from common.privacy.ledger.contributions import Purpose, vector_digest
from common.privacy.ledger.ledger import Ledger

PURPOSE = Purpose("train", "7", 1, "ab" * 32, "cd" * 32, "ef" * 32)
VECTOR = np.arange(4, dtype=np.float32)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.sqlite", "ash", "data")


def test_what_was_signed_is_kept_and_found_again(ledger):
    one = sign_contribution(ledger, VECTOR, PURPOSE)
    assert one.authentic
    assert (one.merchant, one.digest, one.signer) == ("ash", vector_digest(VECTOR), ledger.signer)
    other = sign_contribution(ledger, VECTOR + 1, PURPOSE)
    assert kept_contributions(ledger.path) == {one, other}
    assert contributions_path(ledger.path).stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_short_costs_only_itself(ledger):
    one = sign_contribution(ledger, VECTOR, PURPOSE)
    path = contributions_path(ledger.path)
    path.write_bytes(path.read_bytes() + one.to_json().encode()[:40])
    other = sign_contribution(ledger, VECTOR + 1, PURPOSE)
    assert kept_contributions(ledger.path) == {one, other}


def test_nothing_leaves_that_cannot_be_kept(ledger):
    contributions_path(ledger.path).mkdir()
    with pytest.raises(LedgerError) as caught:
        sign_contribution(ledger, VECTOR, PURPOSE)
    assert caught.value.field == "contributions"


def test_a_line_that_nobody_signed_is_not_the_nodes(ledger):
    one = sign_contribution(ledger, VECTOR, PURPOSE)
    keep_contribution(ledger.path, one.signed(b"x" * 64))
    assert kept_contributions(ledger.path) == {one}
