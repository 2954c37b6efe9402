"""A whole run in one process: Flower's real app, messages and contexts around a fake node."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from client.app import app
from client.node.session import close_nodes
from common.errors import FederationError, InputError, PrivacyError, QuorumError
from common.federation.optimiser import Sgd
from server.run.checkpoint import read_checkpoint
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import (
    LOCAL,
    SIZE,
    FakeWork,
    arrays_of,
    federation,
    make_setup,
    seeded,
    shops,
)

__all__ = ["federation", "shops"]  # fixtures


def grid_of(federation, run_id=1):
    return InProcessGrid(app, 3, {"federation": str(federation)}, run_id)


def run(federation, setup, rounds=None, **options):
    strategy = FedtailStrategy(setup, **options)
    strategy.start(grid_of(federation), num_rounds=rounds)
    return strategy


def test_a_run_matches_a_loop_written_by_hand(shops, federation):
    setup = make_setup(optimiser=Sgd(momentum=0.5), schedule="constant")
    strategy = FedtailStrategy(setup)
    result = strategy.start(grid_of(federation))

    vector, velocity = np.zeros(SIZE, dtype=np.float32), np.zeros(SIZE)
    for number in range(1, 7):
        updates = []
        for merchant in ("ash", "birch", "cedar"):
            target = seeded("target", merchant).normal(size=SIZE)
            noise = seeded("noise", merchant, number).normal(size=SIZE) * 0.1
            updates.append((vector - target + noise).astype(np.float32).astype(float))
        velocity = 0.5 * velocity + np.mean(updates, axis=0)
        vector = (vector - 0.1 * velocity).astype(np.float32)
    np.testing.assert_allclose(arrays_of(result), vector, atol=1e-7)
    assert [record.round_number for record in strategy.history] == [1, 2, 3, 4, 5, 6]
    assert strategy.metrics == {
        merchant: {"epsilon": 1.0} for merchant in ("ash", "birch", "cedar")
    }


def test_the_phases_come_in_order_and_carry_what_they_should(shops, federation):
    run(federation, make_setup(), rounds=2)
    for work in shops.works.values():
        assert [call[0] for call in work.calls] == ["prepare", "popularity", "train", "train"]
        assert work.calls[0][1:] == (b"public tensors", {"objective": "softmax", "seed": 3})
        assert work.calls[1][1] == LOCAL.digest
        popularity = work.calls[2][1]
        assert popularity.shape == (6,)
        assert popularity.dtype == np.float32
        assert popularity.sum() == pytest.approx(1, abs=1e-6)
        np.testing.assert_array_equal(popularity, work.calls[3][1])
    shared = {work.calls[2][1][:3].tobytes() for work in shops.works.values()}
    ratios = [work.calls[2][1][1] / work.calls[2][1][0] for work in shops.works.values()]
    assert len(shared) == 3  # each is normalised over its own items
    assert ratios == pytest.approx([ratios[0]] * 3)  # but equal texts are equally popular


def test_without_a_histogram_in_the_plan_none_is_asked_for(shops, federation):
    plan = replace(LOCAL, popularity_noise_multiplier=0.0)
    run(federation, make_setup(plan=plan), rounds=1)
    for work in shops.works.values():
        assert [call[0] for call in work.calls] == ["prepare", "train"]
        assert work.calls[1][1] is None


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_run_goes_on_to_the_same_digest(shops, federation, tmp_path, stop):
    whole = run(federation, make_setup())
    halves = make_setup(folder=tmp_path / "run")
    run(federation, halves, rounds=stop)
    close_nodes()
    resumed = run(federation, halves)
    assert resumed.state.adapter.digest == whole.state.adapter.digest
    assert len(resumed.history) == 6
    for work in shops.works.values():  # popularity was paid for before the stop, and only then
        assert "popularity" not in [call[0] for call in work.calls]


def test_ctrl_c_in_a_round_leaves_the_checkpoint_before_it(shops, federation, tmp_path):
    class Interrupted(FakeWork):
        def train(self, adapter, popularity, plan, run_id, round_number):
            if round_number == 4 and self.merchant == "birch":
                raise KeyboardInterrupt
            return super().train(adapter, popularity, plan, run_id, round_number)

    setup = make_setup(folder=tmp_path / "run")
    shops.make = Interrupted
    with pytest.raises(KeyboardInterrupt):
        run(federation, setup)
    assert read_checkpoint(tmp_path / "run").round_number == 3
    close_nodes()
    shops.make = FakeWork
    resumed = run(federation, setup)
    assert resumed.state.adapter.digest == run(federation, make_setup()).state.adapter.digest


def test_a_stop_in_the_first_round_does_not_pay_for_popularity_again(shops, federation, tmp_path):
    class Interrupted(FakeWork):
        def train(self, *arguments):
            raise KeyboardInterrupt

    setup = make_setup(folder=tmp_path / "run")
    shops.make = Interrupted
    with pytest.raises(KeyboardInterrupt):
        run(federation, setup)
    close_nodes()
    shops.make = FakeWork
    resumed = run(federation, setup)
    assert len(resumed.history) == 6
    for work in shops.works.values():
        assert "popularity" not in [call[0] for call in work.calls]


def test_a_checkpoint_of_another_plan_or_settings_is_refused(shops, federation, tmp_path):
    setup = make_setup(folder=tmp_path / "run")
    run(federation, setup, rounds=1)
    with pytest.raises(InputError) as caught:
        FedtailStrategy(replace(setup, plan=replace(LOCAL, noise_multiplier=2.0)))
    assert caught.value.field == "plan_digest"
    for changes in ({"settings": {"seed": 4}}, {"basis": b"other"}):
        with pytest.raises(InputError) as caught:
            FedtailStrategy(replace(setup, **changes))
        assert caught.value.field == "settings_digest"


def test_a_failing_node_is_counted_and_the_quorum_decides(shops, federation):
    class Failing(FakeWork):
        def train(self, adapter, popularity, plan, run_id, round_number):
            if self.merchant == "birch" and round_number == 2:
                raise PrivacyError("no budget left", field="epsilon")
            return super().train(adapter, popularity, plan, run_id, round_number)

    shops.make = Failing
    lenient = run(federation, make_setup(quorum=Quorum(2, 0.5, 0.0)), rounds=3)
    assert [record.participants for record in lenient.history] == [3, 2, 3]
    assert [record.failures for record in lenient.history] == [0, 1, 0]
    close_nodes()
    with pytest.raises(QuorumError) as caught:
        run(federation, make_setup())
    assert caught.value.field == "train"


def test_a_late_node_is_left_out_of_the_round(shops, federation):
    class Slow(FakeWork):
        def train(self, adapter, popularity, plan, run_id, round_number):
            if self.merchant == "cedar":
                time.sleep(0.2)
            return super().train(adapter, popularity, plan, run_id, round_number)

    shops.make = Slow
    setup = make_setup(quorum=Quorum(2, 0.5, 0.0), round_timeout=0.1)
    strategy = run(federation, setup, rounds=1)
    assert strategy.history[0].participants == 2
    assert strategy.history[0].failures == 1


def test_an_update_that_does_not_check_is_left_out(shops, federation):
    class Wrong(FakeWork):
        def train(self, adapter, popularity, plan, run_id, round_number):
            update = super().train(adapter, popularity, plan, run_id, round_number)
            if self.merchant == "ash":
                update.vector[0] = np.nan
            if self.merchant == "birch":
                update = replace(update, round_number=round_number + 1)
            return update

    shops.make = Wrong
    strategy = run(federation, make_setup(quorum=Quorum(1, 0.1, 0.0)), rounds=1)
    assert strategy.history[0].participants == 1


def test_a_node_that_lost_its_state_is_prepared_again(shops, federation):
    setup = make_setup(quorum=Quorum(2, 0.5, 0.0))
    grid = grid_of(federation)
    strategy = FedtailStrategy(setup)
    strategy.start(grid, num_rounds=1)
    context = next(iter(grid._contexts.values()))
    context.state.clear()  # what a restart does to a deployed node
    strategy.start(grid, num_rounds=3)
    assert [record.participants for record in strategy.history] == [3, 2, 3]


def test_two_nodes_of_one_name_do_not_both_take_part(shops, federation):
    class Twin(FakeWork):
        def __init__(self, settings):
            super().__init__(replace(settings, merchant="same"))

    shops.make = Twin
    strategy = run(federation, make_setup(quorum=Quorum(1, 1.0, 0.0)), rounds=1)
    assert strategy.history[0].participants == 1
    assert set(strategy._cohort.refused.values()) == {"federation:merchant"}


def test_central_noise_needs_every_merchant_of_the_plan(shops, federation):
    plan = replace(LOCAL, dp_model="central", merchants=4)
    with pytest.raises(QuorumError):
        run(federation, make_setup(plan=plan), rounds=1)
    run(federation, make_setup(plan=replace(plan, merchants=3)), rounds=1)


def test_more_rounds_than_the_plan_has_are_refused(shops, federation):
    with pytest.raises(FederationError) as caught:
        run(federation, make_setup(), rounds=7)
    assert caught.value.field == "rounds"


def test_too_few_nodes_end_the_wait(shops, federation):
    with pytest.raises(QuorumError) as caught:
        run(federation, make_setup(quorum=Quorum(4, 1.0, 0.0)))
    assert caught.value.field == "nodes"


def test_records_tell_size_time_and_epsilon(shops, federation):
    seen = []
    run(federation, make_setup(), rounds=2, on_round=seen.append, epsilon=lambda done: done / 2)
    first, second = seen
    assert (first.epsilon, second.epsilon) == (0.5, 1.0)
    assert first.bytes_down > second.bytes_down > 3 * 4 * (SIZE + 6)  # the first also prepares
    assert first.bytes_up > second.bytes_up > 3 * 4 * SIZE
    assert first.update_norm > 0
    assert first.seconds > 0


def test_the_result_does_not_depend_on_the_order_of_answers(shops, federation):
    class Shuffled(InProcessGrid):
        order = itertools.cycle([(2, 0, 1), (1, 2, 0)])

        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            return [replies[place] for place in next(self.order)]

    strategy = FedtailStrategy(make_setup())
    strategy.start(Shuffled(app, 3, {"federation": str(federation)}))
    straight = run(federation, make_setup())
    assert strategy.state.adapter.digest == straight.state.adapter.digest


def test_public_evaluation_is_called_after_each_round(shops, federation):
    from flwr.app import MetricRecord

    strategy = FedtailStrategy(make_setup())
    result = strategy.start(
        grid_of(federation),
        num_rounds=2,
        evaluate_fn=lambda number, arrays: MetricRecord({"round": number, "tensors": len(arrays)}),
    )
    assert dict(result.evaluate_metrics_serverapp[2]) == {"round": 2, "tensors": 1}


# ------------------------------------------------------------------------ canaries
def audited(**changes):
    return make_setup(settings={"objective": "softmax", "seed": 3, "audit_canaries": 8}, **changes)


def test_nodes_that_open_nothing_leave_the_run_unaudited_and_whole(shops, federation):
    strategy = run(federation, audited())
    assert strategy.audits == {}
    assert strategy.state.round_number == 6
    assert arrays_of(strategy.start(grid_of(federation))).shape == (SIZE,)


def test_nodes_that_are_gone_after_the_last_round_do_not_cost_the_run(shops, federation):
    grid = grid_of(federation)
    strategy = FedtailStrategy(
        audited(), on_round=lambda record: record.round_number == 6 and grid.empty()
    )
    grid.empty = lambda: setattr(grid, "get_node_ids", list)
    result = strategy.start(grid)
    assert len(strategy.history) == 6
    assert strategy.audits == {}
    assert np.array_equal(arrays_of(result), strategy.state.adapter.flatten())


def test_canaries_are_asked_for_after_the_last_round_only(shops, federation, monkeypatch):
    opened = []
    monkeypatch.setattr(
        FakeWork, "revealed_canaries", lambda self, *_: opened.append(self.merchant)
    )
    run(federation, audited(), rounds=5)
    assert opened == []
    run(federation, audited())
    assert opened == ["ash", "birch", "cedar"]
