"""Whole runs of eight small shops, models and all, whose server sees sums alone."""

from collections import Counter

import numpy as np
import pytest

from client.node.secure_party import SecureParty
from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger
from common.federation.contribution_files import sum_file
from common.identity.signing_key import PublicKey
from common.privacy.mechanism.sum_canaries import owned_canaries
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.runner import run_federation
from tests.support.shops import make_settings, make_shop

SHOPS = [make_shop(f"S{place}", items=30, shoppers=20, seed=place) for place in range(8)]
KINDS = [("popularity", 0), ("season", 0), *(("train", number) for number in (1, 2, 3))]


class Place:
    """A federation's folder of eight shops, and what each node masked in a run of it."""

    def __init__(self, root, tiny_bert, monkeypatch, *, shops=SHOPS, **changes):
        values = {
            "base_model": str(tiny_bert),
            "noise": "distributed",
            "season_ends": "2020-01-01",
            "audit_canaries": 16,
        }
        self.settings = make_settings(**values | changes)
        self.root, self.folder = root, root / "f"
        write_federation(
            [Shop.of(data) for data in shops], self.folder, self.settings.plan(len(shops))
        )
        self.made = {}
        mask = SecureParty.mask

        def kept(party, request, share):
            name = party._ledger.merchant
            self.made[name, share.kind, share.round_number] = share.integers
            return mask(party, request, share)

        monkeypatch.setattr(SecureParty, "mask", kept)

    def run(self, name="c"):
        cache = self.root / "cache"
        return run_federation(self.folder, self.settings, self.root / name, cache)

    @property
    def ledgers(self):
        return {
            place.name: open_ledger(place / "node" / LEDGER_FILE, place.name)
            for place in merchant_folders(self.folder)
        }


@pytest.fixture
def place(tmp_path, tiny_bert, monkeypatch):
    return Place(tmp_path, tiny_bert, monkeypatch)


def test_what_the_server_learns_of_eight_shops_is_the_plain_sum_of_what_they_masked(place):
    run = place.run()
    ledgers = place.ledgers
    identities = {name: PublicKey(bytes.fromhex(ledger.signer)) for name, ledger in ledgers.items()}
    for kind, number in KINDS:
        content = (run.contributions / sum_file(number, kind)).read_bytes()
        total = sum_again(Transcript.from_bytes(content), identities)
        assert total.survivors == tuple(ledgers)
        rows = [place.made[name, kind, number] for name in ledgers]
        assert np.array_equal(total.vector, np.sum(rows, axis=0).view(np.uint64)), (kind, number)
    for ledger in ledgers.values():
        charged = [one for one in ledger.entries() if one.run_id]
        assert Counter((one.kind, one.round_number) for one in charged) == Counter(KINDS)
        assert {one.dp_model for one in charged} == {"distributed"}
    assert [one.participants for one in run.history] == [8, 8, 8]
    assert run.season.merchants == 8
    # Canaries: each merchant's virtual shoppers are in its own columns of the sums alone.
    assert (run.canary_sums.roster, run.canary_sums.columns.shape) == (tuple(ledgers), (3, 16))
    told, inside = run.canary_sums.known(run.audits)
    assert told.all()
    for name, record in run.audits.items():
        own = owned_canaries(tuple(ledgers), name, 16)
        assert (inside & own == record.bits & own).all()


def test_two_runs_from_one_seed_have_the_same_sums_under_other_masks(
    tmp_path, tiny_bert, monkeypatch
):
    """So ways to run can be compared to the bit: `tests/server/test_app.py` does it on Flower's."""
    changes = {"rounds": 1, "seeded_noise": True, "popularity_share": 0.0, "season_ends": ""}
    found = []
    for name in ("one", "other"):
        place = Place(tmp_path / name, tiny_bert, monkeypatch, shops=SHOPS[:5], **changes)
        run = place.run()
        content = (run.contributions / sum_file(1, "train")).read_bytes()
        found.append((run.adapter.to_bytes(), place.made, Transcript.from_bytes(content).masked))
    (adapter, made, masked), (again, others, under_others) = found
    assert adapter == again
    assert made.keys() == others.keys()
    assert all(np.array_equal(made[one], others[one]) for one in made)
    pairs = zip(masked, under_others, strict=True)
    assert not any((one.vector == other.vector).any() for one, other in pairs)
