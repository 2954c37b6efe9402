"""A node's party on disk: what it takes part in, and what it refuses.

That no mask hides two vectors, whatever happens, is in `test_secure_party_once.py`.
"""

from dataclasses import replace

import numpy as np
import pytest

from client.node.secure_party import SecureParty
from common import files
from common.errors import SettingsError
from common.privacy.ledger.ledger import Ledger
from tests.support.sitting import (
    AGREED,
    ME,
    NAMES,
    PLAN,
    RUN,
    WIDTH,
    Sitting,
    refused,
    sitting,
)

__all__ = ["sitting"]


# ------------------------------------------------------------------------- the way it goes
def test_a_node_that_is_another_process_for_each_message_is_in_the_sum(sitting):
    request = sitting.server.start(1, "a" * 64)
    sitting.ask("check", request, "train", 1, "a" * 64)
    share = sitting.share()
    sitting.server.receive_masked(sitting.ask("mask", request, share))
    rows = [share.integers]
    for one in sitting.others.values():
        rows.append(np.arange(WIDTH) - 3)
        sitting.server.receive_masked(one.mask(request, rows[-1]))
    last = sitting.server.close()
    for reply in [sitting.ask("unmask", last)] + [x.unmask(last) for x in sitting.others.values()]:
        sitting.server.receive_unmask(reply)
    total = sitting.server.finish()
    assert np.array_equal(total.vector, np.sum(rows, axis=0, dtype=np.int64).view(np.uint64))
    assert sitting.party().names == NAMES


def test_a_party_is_for_its_owner_only_and_none_of_another_run_stays(sitting):
    (path,) = sitting.state.glob("secure-sum/run-*.party")
    assert path.stat().st_mode & 0o777 == files.PRIVATE_MODE
    other = sitting.party(run_id=RUN + 1)
    other.advertise(0)
    assert [one.name for one in sitting.state.glob("secure-sum/run-*.party")] == ["run-8.party"]
    refused("state", sitting.party().view, None)


def test_what_is_on_disk_is_not_shown_and_what_is_none_is_refused(sitting):
    (path,) = sitting.state.glob("secure-sum/run-*.party")
    held = sitting.party()._held()
    assert repr(held.party)[:40] not in repr(held)
    sitting.start()
    for content in (b"", b"rubbish", path.read_bytes()[:-1]):
        path.write_bytes(content)
        refused("state", sitting.party().view, sitting.view_request())
    path.unlink()
    refused("state", sitting.party().view, sitting.view_request())


def test_names_are_told_once_the_setup_is_over(tmp_path):
    party = SecureParty(
        tmp_path, Ledger.open(tmp_path / "ledger.sqlite", ME, "data"), PLAN, RUN, AGREED, 1
    )
    refused("state", lambda: party.names)
    party.advertise(0)
    refused("phase", lambda: party.names)


def test_a_roster_of_more_than_the_plan_shares_its_noise_among_is_refused(tmp_path):
    """Their sum could overflow; it is refused before anybody is pinned to a key."""
    sitting = Sitting(tmp_path / "node")
    few = replace(PLAN, merchants=6)
    refused("cohort", sitting.party(plan=few).share, sitting.company)


@pytest.mark.parametrize("least", [6, 7])
def test_no_share_is_given_for_fewer_than_the_policy_says(sitting, least):
    """Among seven the protocol itself lets one be missing."""
    sitting.masked()
    party = sitting.party(least_cohort=least)
    asked = sitting.view_request(("g",))
    if least == 6:
        assert party.view(asked).name == ME
    else:
        refused("cohort", party.view, asked)


def test_a_plan_that_spares_fewer_than_the_protocol_is_held_to(tmp_path):
    """Seven merchants of whom none may be missing: the protocol itself would spare two."""
    strict = replace(PLAN, spared=1)
    assert strict.least_merchants == 6
    party = SecureParty(tmp_path, None, strict, RUN, AGREED, 1)
    assert party._least == 6


# ---------------------------------------------------------------- what is asked is for this sum
def test_a_share_of_another_round_or_plan_is_not_masked(sitting):
    request = sitting.start(2)
    for share in (sitting.share(1), sitting.share(2, replace(PLAN, noise_multiplier=3.0))):
        refused("round", sitting.party().mask, request, share)


def test_what_all_were_asked_is_held_against_what_this_node_was_given(sitting):
    request = sitting.server.start(1, "a" * 64)
    refused("asked", sitting.party().check, request, "train", 1, "b" * 64)
    sitting.party().check(request, "train", 1, "a" * 64)


def test_a_histogram_is_counted_only_where_the_plan_takes_one(sitting):
    taking = replace(PLAN, popularity_noise_multiplier=2.0)
    with pytest.raises(SettingsError):
        sitting.party(plan=taking).advertise(0)


# ------------------------------------------------------------------------ what context tells
def test_how_often_it_was_written_goes_up_with_each_step_also_where_it_refuses(sitting):
    before = sitting.seen
    sitting.masked()
    assert sitting.seen == before + 1
    refused("dropouts", sitting.ask, "view", sitting.view_request((ME,)))
    assert sitting.seen == before + 2
    sitting.set_up()
    assert sitting.seen == before + 5
