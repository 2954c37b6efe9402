"""Merchants that spoil setups of secure sums: who can be named is out, and the run goes on."""

from dataclasses import replace

import pytest

from common.identity.signing_key import SigningKey
from common.privacy.secagg.shamir import SHARE_BYTES
from tests.attacks.test_failed_sums import HOSTILE, acts, counts, named, signed
from tests.support.fake_node import shops
from tests.support.secure_town import BARE, NAMES, secure_town

__all__ = ["acts", "secure_town", "shops"]

pytestmark = pytest.mark.attack


def test_one_that_says_it_is_another_is_out(secure_town, acts):
    """Else its words go to all nodes, who see two of one name, and no setup comes to an end."""

    def another(_party, honest, histogram):
        told = honest(histogram)
        return replace(told, introduction=replace(told.introduction, name=NAMES[0]))

    acts("advertise", another)
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert named(secure_town) == {NAMES[HOSTILE]}


def test_one_that_speaks_for_another_which_lends_it_its_key_is_out(secure_town, acts):
    """Else its vector is the other's, under masks that do not cancel: a sum of nonsense."""
    keys = {}

    def lends(party, honest, histogram):
        keys["other"] = party._ledger.signing_key
        return honest(histogram)

    def speaks(_party, honest, *told):
        return replace(honest(*told), name=NAMES[HOSTILE + 1]).signed(keys["other"])

    acts("advertise", lends, (HOSTILE + 1,))
    acts("mask", speaks)
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert named(secure_town) == {NAMES[HOSTILE]}


def test_one_that_signs_with_another_key_than_its_ledgers_is_out(secure_town, acts):
    """An audit knows a party by the key of its charges: a sum with another could not be shown."""

    key = SigningKey.in_memory()

    def stranger(_party, honest, histogram):
        told = honest(histogram)
        return replace(told, introduction=replace(told.introduction, key=key.public.raw))

    acts("_party", lambda _party, honest, identities: replace(honest(identities), key=key))
    acts("advertise", stranger)
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert named(secure_town) == {NAMES[HOSTILE]}
    assert not secure_town.charged(NAMES[HOSTILE])


def sealed_nonsense(*places):
    """Seal shares to some that do not open."""

    def act(party, honest, company):
        told = honest(company)
        others = {NAMES[place] for place in places}
        nonsense = {name: bytes(len(one)) for name, one in told.sealed.items() if name in others}
        return signed(party, told, sealed={**told.sealed, **nonsense})

    return act


def test_one_that_deals_nonsense_to_all_is_out_and_they_are_not(secure_town, acts):
    acts("share", sealed_nonsense(*range(8)))
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert NAMES[HOSTILE] not in run._secure.sums.sitting.names
    assert not secure_town.charged(NAMES[HOSTILE])


def test_one_that_deals_nonsense_to_one_is_out_and_that_one_is_not(secure_town, acts):
    acts("share", sealed_nonsense(0))
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert NAMES[0] in run._secure.sums.sitting.names
    told = [(one.participants, one.reason) for one in secure_town.journal("refusal")]
    assert ((NAMES[0],), "secure_sum:shares") in told, "an operator sees who says so"


def test_one_that_accuses_one_after_the_other_is_out_and_they_are_back(secure_town, acts):
    def accuses(party, honest, dealt):
        told, others = honest(dealt), sorted(dealt.sealed)
        return signed(party, told, unread=(others[0],))

    acts("accept", accuses)
    run = secure_town.run(plan=BARE, season_ends=())
    assert counts(run) == [7, 7]
    assert run._secure.sums.sitting.names == NAMES[:HOSTILE] + NAMES[HOSTILE + 1 :]


def test_one_that_deals_false_shares_fails_one_sum_and_is_out(secure_town, acts, monkeypatch):
    """They open, and are of nothing: that shows once its self mask is to be taken off."""
    from common.privacy.secagg.setup import Setup

    deal = Setup._deal

    def false(setup, around, threshold):
        found = deal(setup, around, threshold)
        if setup._party.name != NAMES[HOSTILE]:
            return found
        size = len(next(iter(found.values()))) // SHARE_BYTES
        return {
            one: (place + 5).to_bytes(SHARE_BYTES, "big") * size for place, one in enumerate(found)
        }

    monkeypatch.setattr(Setup, "_deal", false)
    run = secure_town.run(plan=replace(BARE, steps=3), season_ends=())
    assert counts(run) == [0, 7, 7]
    assert [one.reason for one in secure_town.journal("train")] == ["quorum:shares", "", ""]
    assert NAMES[HOSTILE] not in run._secure.sums.sitting.names
