import dataclasses
import itertools
import logging

import numpy as np
import pytest

from client.node.participant import MerchantWork
from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger, spent
from client.privacy.canaries import CanaryBook
from client.privacy.policy import POLICY_FILE, Policy
from client.training.dp_trainer import PrivateTrainer
from common.encoder.base_model import _digest
from common.encoder.catalogue_encoder import cached_base_model
from common.errors import InputError, QuorumError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.empirical_bound import audit_canaries
from common.privacy.mechanism.noise import NoiseSource
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.runner import Watch, epsilon_after, run_federation
from tests.support.shops import make_settings, make_shop

SHOPS = [make_shop(name, items=40, shoppers=30, seed=seed) for seed, name in enumerate("AB")]


class Place:
    """A federation's folder of two small shops, and everything a run needs beside it."""

    def __init__(self, root, tiny_bert, **changes):
        self.settings = make_settings(base_model=str(tiny_bert), **changes)
        self.shops = [Shop.of(data) for data in SHOPS]
        self.folder, self.checkpoints, self.cache = root / "f", root / "c", root / "cache"
        write_federation(self.shops, self.folder, self.settings.plan(len(self.shops)))

    def run(self, watch=None, checkpoints=None):
        folder = checkpoints or self.checkpoints
        return run_federation(self.folder, self.settings, folder, self.cache, watch)

    def ledgers(self):
        """Each merchant's ledger and policy."""
        for place in merchant_folders(self.folder):
            path = place / "node" / LEDGER_FILE
            ledger = open_ledger(path, place.name)
            yield ledger, Policy.from_toml(place / POLICY_FILE)


@pytest.fixture
def place(tmp_path, tiny_bert):
    """Make a federation in a folder of its own."""
    numbers = itertools.count()
    return lambda **changes: Place(tmp_path / str(next(numbers)), tiny_bert, **changes)


def entries_of(ledger):
    held = [(entry.kind, entry.round_number) for entry in ledger.entries()]
    return [one for one in held if one[0] != "data"]  # one for each time the folder was written


# ------------------------------------------------------------------- repeating
def test_the_same_seed_gives_the_same_adapter_to_the_bit(place):
    first, again = place().run(), place().run()
    assert first.adapter.digest == again.adapter.digest
    assert first.basis.digest == again.basis.digest
    other = place(seed=1).run()
    assert other.basis.digest == first.basis.digest  # the basis is public text's alone
    assert other.adapter.digest != first.adapter.digest


def test_a_warm_cache_gives_the_same_adapter_as_a_cold_one(place):
    one = place()
    first = one.run()
    again = one.run(checkpoints=one.checkpoints / "again") if _allow_twice(one) else None
    assert again is not None
    assert again.adapter.digest == first.adapter.digest


def _allow_twice(place):
    """Raise each merchant's ceiling, so that the same folder can run once more."""
    for folder in merchant_folders(place.folder):
        text = (folder / POLICY_FILE).read_text().splitlines()
        kept = [line for line in text if not line.startswith("max_epsilon")]
        (folder / POLICY_FILE).write_text("\n".join([*kept, "max_epsilon = 99.0"]))
    return True


def test_without_a_seed_for_the_noise_no_two_runs_are_alike(place):
    first, again = (place(seeded_noise=False).run() for _ in range(2))
    assert first.adapter.digest != again.adapter.digest
    assert first.basis.digest == again.basis.digest


def test_without_noise_runs_repeat_only_where_sampling_does(place):
    """With q = 1 and no noise nothing is drawn in secret."""
    changes = {"noise": "none", "sample_rate": 1.0, "seeded_noise": False}
    assert place(**changes).run().adapter.digest == place(**changes).run().adapter.digest


# -------------------------------------------------------------- what it trains
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_modules": "query,value", "last_layers": 2, "rounds": 2},
        {"lora_modules": "output.dense,projection", "lora": "lora", "rounds": 2},
        {"objective": "bce", "steps_per_round": 2},
        {"objective": "mse", "popularity_strength": 0.0},
        {"noise": "central", "quorum": 1.0},
        {"noise": "none"},
    ],
    ids=str,
)
def test_every_trained_tensor_moves_and_the_base_model_does_not(place, changes):
    one = place(**changes)
    model = cached_base_model(one.settings.base_model)
    before = _digest(model.bert, model.tokeniser)
    starts = []

    def keep(_, adapter):
        starts.append(adapter)

    run = one.run(Watch(on_round=keep))
    assert len(starts) == len(run.history) == one.settings.rounds
    for first, second in itertools.pairwise(starts):
        for name, tensor in first.tensors.items():
            assert not np.array_equal(tensor, second.tensors[name]), name
    for name, tensor in starts[0].tensors.items():
        if "lora_B" in name:
            assert np.abs(tensor).max() > 0  # it started from zero
    assert _digest(model.bert, model.tokeniser) == before == model.digest
    assert starts[-1].digest == run.adapter.digest


def test_a_round_is_charged_once_and_the_budget_is_what_was_planned(place):
    one = place()
    run = one.run()
    for ledger, _ in one.ledgers():
        assert entries_of(ledger) == [
            ("popularity", 0),
            *(("train", number) for number in (1, 2, 3)),
        ]
        report = spent(ledger, run.plan.delta)
        assert report.pld == pytest.approx(epsilon_after(run.plan, 3).pld)
        assert report.pld == pytest.approx(one.settings.epsilon, abs=0.01)
    epsilons = [record.epsilon for record in run.history]
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == pytest.approx(one.settings.epsilon, abs=0.01)


def test_a_run_tells_its_basis_before_and_every_round_after(place):
    told = []
    watch = Watch(
        on_encoded=lambda done, total: told.append("text"),
        on_basis=lambda basis: told.append("basis"),
        on_round=lambda record, adapter: told.append(record.round_number),
    )
    one = place()
    one.run(watch)
    assert [one for one in told if one != "text"] == ["basis", 1, 2, 3]
    assert told[0] == "text"


def test_nothing_of_a_shop_reaches_a_log(place, caplog):
    with caplog.at_level(logging.DEBUG):
        place().run()
    for data in SHOPS:
        for words in (data.interactions.shopper_ids, (one.title for one in data.catalogue.items)):
            long_enough = [word for word in words if len(word) > 12]
            assert not any(word in caplog.text for word in long_enough)
    assert "shopper-" not in caplog.text
    assert "item-" not in caplog.text


# --------------------------------------------------------------------- resuming
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_run_stopped_after_a_round_goes_on_to_the_same_adapter(place, stop_after):
    whole = place().run()
    one = place()

    def stop(record, _):
        if record.round_number == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(Watch(on_round=stop))
    seen = []
    resumed = one.run(Watch(on_round=lambda record, _: seen.append(record.round_number)))
    assert seen == list(range(stop_after + 1, 4))
    assert resumed.adapter.digest == whole.adapter.digest
    assert [record.round_number for record in resumed.history] == [1, 2, 3]
    for ledger, _ in one.ledgers():
        assert len(entries_of(ledger)) == 4  # nothing was repeated


@pytest.mark.parametrize("merchant", [0, 1])
def test_a_round_cut_short_is_charged_again_and_comes_to_the_same(place, monkeypatch, merchant):
    whole = place().run()
    one = place()
    calls = itertools.count()
    private_round = PrivateTrainer.private_round

    def stopping(self, *arguments):
        if next(calls) == 2 + merchant:  # round 2
            raise KeyboardInterrupt
        return private_round(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PrivateTrainer, "private_round", stopping)
        with pytest.raises(KeyboardInterrupt):
            one.run()
    resumed = one.run()
    assert resumed.adapter.digest == whole.adapter.digest
    for number, (ledger, policy) in enumerate(one.ledgers()):
        rounds = [entry.round_number for entry in ledger.entries() if entry.kind == "train"]
        assert rounds == ([1, 2, 2, 3] if number <= merchant else [1, 2, 3])
        assert spent(ledger, resumed.plan.delta).rdp <= policy.max_epsilon


def test_stops_without_end_run_out_of_budget_and_not_of_privacy(place, monkeypatch):
    one = place()

    def stopping(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PrivateTrainer, "private_round", stopping)
    for _ in range(40):
        with pytest.raises((KeyboardInterrupt, QuorumError)) as caught:
            one.run()
        if caught.type is QuorumError:
            break
    assert caught.type is QuorumError
    for ledger, policy in one.ledgers():
        assert spent(ledger, one.settings.delta).rdp <= policy.max_epsilon + 1e-9


def test_a_second_run_on_the_same_shoppers_is_refused(place):
    one = place()
    run = one.run()
    with pytest.raises(QuorumError):
        one.run(checkpoints=one.checkpoints / "second")
    for ledger, policy in one.ledgers():
        report = spent(ledger, run.plan.delta)
        assert report.rdp <= policy.max_epsilon
        assert report.pld < 2 * one.settings.epsilon


def test_a_merchant_that_refuses_the_run_ends_it_at_once(place, monkeypatch):
    """Nobody else can come: a server would wait ten minutes."""
    one = place(seeded_noise=True)
    for folder in merchant_folders(one.folder):
        policy = folder / POLICY_FILE
        policy.write_text(policy.read_text().replace("allow_seeded_noise = true", ""))
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(QuorumError, match=r"0 nodes are ready .* 2 refused"):
        one.run()


def test_a_finished_run_is_not_run_again(place, monkeypatch):
    one = place()
    first = one.run()

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(MerchantWork, "train", never)
    again = one.run()
    assert again.adapter.digest == first.adapter.digest
    assert again.history == first.history


def test_other_settings_in_the_same_folder_are_refused(place):
    one = place()
    one.run()
    one.settings = one.settings.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(InputError, match="other settings"):
        one.run()


# ----------------------------------------------------------------------- canaries
def test_every_merchant_opens_what_it_committed_to_after_the_last_round(place):
    run = place().run()
    assert sorted(run.audits) == ["00-a", "01-b"]
    for name, record in run.audits.items():
        assert record.revealed
        assert record.merchant == name
        assert record.plan == run.plan.to_json()
        assert record.canaries.shape == (3, 512)
        assert audit_canaries(record).epsilon < epsilon_after(run.plan, 3).pld
    assert not np.array_equal(run.audits["00-a"].bits, run.audits["01-b"].bits)


@pytest.mark.parametrize("changes", [{}, {"steps_per_round": 2}])
def test_canaries_change_no_bit_of_what_shoppers_add_to_the_adapter(place, changes, monkeypatch):
    """Without noise it is the same adapter, though numbers lay in another order in each step."""
    monkeypatch.setattr(PrivacyPlan, "noise_std", lambda plan, kind: 0.0)
    golden = np.uint64(0x9E3779B97F4A7C15)  # coins that do not depend on how much noise was drawn
    monkeypatch.setattr(
        NoiseSource, "words", lambda _, count: np.arange(count, dtype=np.uint64) * golden
    )
    without = place(audit_canaries=0, **changes).run()
    assert without.audits == {}
    assert place(audit_canaries=64, **changes).run().adapter.digest == without.adapter.digest


def test_canaries_survive_stops_and_count_what_was_repeated(place, monkeypatch):
    whole, one, calls = place().run(), place(), itertools.count()
    save = CanaryBook.save

    def stopping(self, record):
        save(self, record)
        if next(calls) == 2:  # the first merchant's second round is on record, its update is lost
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CanaryBook, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            one.run()
    run = one.run()
    assert run.adapter.digest == whole.adapter.digest
    assert [record.rounds.tolist() for record in run.audits.values()] == [[1, 2, 2, 3], [1, 2, 3]]
    for name, record in run.audits.items():
        assert record.commitment == whole.audits[name].commitment
    again = one.run()  # a finished run: asked once more, the same is opened
    assert [one.to_bytes() for one in again.audits.values()] == [
        one.to_bytes() for one in run.audits.values()
    ]


def test_without_local_noise_nothing_is_audited(place):
    for changes in ({"noise": "central", "quorum": 1.0}, {"noise": "none"}):
        assert place(**changes).run().audits == {}


def test_a_merchant_that_opens_other_canaries_is_left_out_and_the_run_is_not_lost(
    place, monkeypatch
):
    reveal_canaries = MerchantWork.revealed_canaries

    def other(self, plan, run_id):
        record = reveal_canaries(self, plan, run_id)
        wrong = dataclasses.replace(record, bits=~record.bits)
        return wrong if record.merchant == "00-a" else record

    monkeypatch.setattr(MerchantWork, "revealed_canaries", other)
    run = place().run()
    assert list(run.audits) == ["01-b"]
    assert len(run.history) == 3
