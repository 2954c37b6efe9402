import hashlib
import logging
import math
import os
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, RecordDict

from client.app import app
from client.node.participant import MerchantWork
from client.node.popularity import purchases_histogram
from client.node.session import close_nodes
from client.node.settings import NodeSettings
from client.privacy.app_guard_command import guarded_environment
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.canaries import FOLDER, CanaryBook
from client.privacy.policy import POLICY_FILE, Policy
from client.shop.dataset import save_merchant_data
from client.training.dp_trainer import PrivateTrainer
from common.adapter import AdapterState
from common.encoder.adapted_encoder import AdaptedEncoder
from common.encoder.catalogue_encoder import cached_base_model, fit_public_basis
from common.errors import (
    BudgetError,
    FederationError,
    InputError,
    PolicyError,
    SettingsError,
)
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.wire import canaries, messages
from common.wire.packed_vector import unpack_vector
from common.wire.sizes import size_in_bytes
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.shops import make_interactions, make_plan, make_settings, make_shop

SHOPPERS = 30
SIZE_OF_B = 3 * 32  # rank and width of the tiny BERT
POLICY = "max_epsilon = 50.0\nmax_run_epsilon = 50.0\ndelta = 1e-3\nallow_seeded_noise = true\n"


def plan_of(**changes):
    return make_plan(noise_multiplier=2.0, steps=4, size_bracket=SHOPPERS, **changes)


class Shop:
    """One deployed merchant: a folder, messages in, replies out."""

    guarded = True

    def __init__(self, root, data, settings, basis, *, policy=POLICY):
        self.folder, self.data = root, data
        self.settings, self.basis = settings, basis
        save_merchant_data(data, root)
        (root / POLICY_FILE).write_text(policy)
        InProcessGrid(app, 1, {})  # says who builds messages in this process
        self.context = Context(1, 7, {"data": str(root), "merchant": "ash"}, RecordDict(), {})

    def ask(self, kind, content):
        close_nodes()  # each message may come to a new process
        guarded = guarded_environment(self.folder) if self.guarded else {}
        with mock.patch.dict(os.environ, guarded):
            return app(Message(content, 7, kind), self.context)

    def answers(self, plan, adapter, rounds=(1, 2)):
        """Every reply of a run, in order."""
        request = messages.PrepareRequest(
            self.basis.to_bytes(), self.settings.to_flat(), plan.to_json()
        )
        replies = [self.ask(messages.PREPARE, messages.encode_prepare(request))]
        histogram = messages.encode_plan_request(plan.digest)
        replies.append(self.ask(messages.POPULARITY, histogram))
        popularity = np.full(len(self.data.catalogue), 1e-2, np.float32)
        for number in rounds:
            request = messages.TrainRequest(adapter, popularity, number, plan.digest)
            replies.append(self.ask(messages.TRAIN, messages.encode_train(request)))
        return replies


@pytest.fixture(scope="module")
def ground(tiny_bert, tmp_path_factory):
    """Settings, a shop, a basis and an adapter that all tests here share."""
    settings = make_settings(base_model=str(tiny_bert), size_bracket=SHOPPERS)
    data = make_shop(items=40, shoppers=SHOPPERS)
    basis = fit_public_basis(data.catalogue, settings, tmp_path_factory.mktemp("cache"))
    model = cached_base_model(settings.base_model)
    return settings, data, basis, AdaptedEncoder(model, basis, settings.lora_targets).adapter()


@pytest.fixture
def shop(ground, tmp_path):
    settings, data, basis, _ = ground
    yield Shop(tmp_path / "ash", data, settings, basis)
    close_nodes()


def opened_work(ground, folder):
    """A node with a shop and a policy, before it is prepared."""
    node = NodeSettings("ash", folder / "w", folder / "w/node", folder / "c", simulated=True)
    save_merchant_data(ground[1], node.data)
    (node.data / POLICY_FILE).write_text(POLICY)
    return MerchantWork(node)


@pytest.fixture
def work(ground, tmp_path):
    settings, _, basis, _ = ground
    opened = opened_work(ground, tmp_path)
    opened.prepare(basis.to_bytes(), settings.to_flat())
    return opened


def without_last_shopper(data):
    kept = np.arange(data.interactions.shopper_count - 1)
    return replace(data, interactions=data.interactions.only_shoppers(kept))


# ------------------------------------------------------- what leaves the node
def public_parts(reply):
    """Everything of a reply but the two protected vectors: names, types, sizes, values, errors."""
    if reply.has_error():
        return reply.error.code, reply.error.reason
    parts = {"size": size_in_bytes(reply.content), "type": reply.metadata.message_type}
    for name, record in reply.content.items():
        for key, value in record.items():
            if (name, key) == ("update", "vector"):  # packed: its size is read from noise
                parts["size"] -= len(value)
                parts[name, key] = vector_of(reply).shape
            elif (name, key) == ("popularity", "counts"):
                parts[name, key] = (value.shape, value.dtype, len(value.data))
            else:
                parts[name, key] = getattr(value, "data", value)
    return parts


def vector_of(reply):
    if "update" in reply.content:
        packed = reply.content["update"]["vector"]
        return unpack_vector(packed, SIZE_OF_B, "update").astype(float)
    return reply.content["popularity"]["counts"].numpy().astype(float)


def test_leaving_a_shopper_out_changes_nothing_but_the_two_protected_vectors(ground, tmp_path):
    settings, data, basis, adapter = ground
    plan = plan_of(sample_rate=1.0)  # nobody is left out by chance: noise and cuts stay aligned
    shops = [
        Shop(tmp_path / name / "ash", one, settings, basis)
        for name, one in (("with", data), ("without", without_last_shopper(data)))
    ]
    together, less = (one.answers(plan, adapter) for one in shops)
    assert [public_parts(reply) for reply in together] == [public_parts(reply) for reply in less]
    keys = set(public_parts(together[-1])) - {"size", "type"}
    assert keys == {("update", "vector"), ("run", "round"), ("run", "plan_digest")}
    # What the vectors may differ by is in tests/client/training/test_shopper_gradients.py.
    histogram = np.linalg.norm(vector_of(together[1]) - vector_of(less[1]))
    assert 0.9 < histogram <= 1 + 1e-6
    for number in (2, 3):
        assert not np.array_equal(vector_of(together[number]), vector_of(less[number]))


def test_error_codes_do_not_depend_on_a_shopper_either(ground, tmp_path):
    settings, data, basis, adapter = ground
    poor = POLICY.replace("max_epsilon = 50.0\nmax_run", "max_epsilon = 1.0\nmax_run")
    found = []
    for name, one in (("with", data), ("without", without_last_shopper(data))):
        shop = Shop(tmp_path / name / "ash", one, settings, basis, policy=poor)
        replies = shop.answers(plan_of(), adapter, rounds=(1, 2, 3))
        assert any(reply.has_error() for reply in replies)
        found.append([public_parts(reply) for reply in replies])
    assert found[0] == found[1]
    assert found[0][-1] == (messages.ERROR_CODE, "budget:max_epsilon")


def test_metrics_are_none_and_facts_are_public(shop, ground):
    prepared, _, update, _ = shop.answers(plan_of(), ground[3])
    facts = messages.decode_prepared(prepared.content)
    assert facts.merchant == "ash"
    assert facts.catalogue_digest == shop.data.catalogue.digest
    assert np.array_equal(facts.text_keys, shop.data.catalogue.text_keys)
    assert dict(update.content["metrics"]) == {}


def test_no_id_title_or_path_is_in_a_reply_or_a_log(shop, ground, caplog):
    with caplog.at_level(logging.DEBUG):
        replies = shop.answers(plan_of(), ground[3])
        assert not any(reply.has_error() for reply in replies)
        replies += [shop.ask(messages.TRAIN, messages.encode_plan_request("x"))]
    sent = b"".join(reply.deflate() for reply in replies)
    words = [*shop.data.interactions.shopper_ids, *(i.item_id for i in shop.data.catalogue.items)]
    words += [item.title for item in shop.data.catalogue.items if len(item.title) > 12]
    words += [str(shop.folder)]
    for word in words:
        assert word.encode() not in sent
        assert word not in caplog.text


# -------------------------------------------------------------- paid for first
def entries(work):
    """What was charged: the import's own entry costs nothing."""
    charged = (entry for entry in work._ledger.entries() if entry.kind != "data")
    return [(entry.kind, entry.round_number) for entry in charged]


def test_every_use_is_on_the_ledger_and_the_next_one_too(work, ground):
    plan, adapter = plan_of(), ground[3]
    work.popularity(plan, 1, 0)
    work.train(adapter, None, plan, 1, 1)
    work.train(adapter, None, plan, 1, 1)  # a repeat is paid again
    assert entries(work) == [("popularity", 0), ("train", 1), ("train", 1)]
    charged = [entry for entry in work._ledger.entries() if entry.kind != "data"]
    assert all(entry.seeded_noise for entry in charged)


def test_an_empty_round_is_charged_and_noised_like_any_other(work, ground):
    plan = plan_of(sample_rate=1e-9)
    update = work.train(ground[3], None, plan, 1, 1)
    assert entries(work) == [("train", 1)]
    assert np.std(update.vector * plan.divisor) == pytest.approx(2.0, rel=0.5)


def test_a_refused_charge_trains_nothing(work, ground, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(work._trainer, "private_round", never)
    work._policy = Policy(delta=1e-3, allow_seeded_noise=True, max_epsilon=0.01)
    with pytest.raises(BudgetError):
        work.train(ground[3], None, plan_of(), 1, 1)
    work._policy = Policy(delta=1e-3, allow_seeded_noise=True, min_noise_multiplier=2.5)
    with pytest.raises(PolicyError):
        work.train(ground[3], None, plan_of(), 1, 1)
    assert entries(work) == []


def test_a_node_that_is_not_prepared_does_not_train(ground, tmp_path):
    node = NodeSettings("ash", tmp_path, tmp_path / "node", tmp_path / "c", simulated=True)
    save_merchant_data(ground[1], tmp_path)
    (tmp_path / POLICY_FILE).write_text(POLICY)
    opened = MerchantWork(node)
    with pytest.raises(FederationError) as caught:
        opened.train(ground[3], None, plan_of(), 1, 1)
    assert caught.value.public() == "federation:prepare"
    assert entries(opened) == []


def test_a_histogram_asked_of_an_unprepared_node_is_not_seeded(ground, tmp_path):
    """Only settings that say so make noise repeat; without settings it is secure."""
    node = NodeSettings("ash", tmp_path, tmp_path / "node", tmp_path / "c", simulated=True)
    save_merchant_data(ground[1], tmp_path)
    (tmp_path / POLICY_FILE).write_text(POLICY)
    opened = MerchantWork(node)
    counts = [opened.popularity(plan_of(), 1, 0) for _ in range(2)]
    assert not np.array_equal(*counts)
    assert not any(entry.seeded_noise for entry in opened._ledger.entries())


def test_a_broken_basis_or_setting_is_refused_before_anything(ground, tmp_path):
    settings, data, basis, _ = ground
    node = NodeSettings("ash", tmp_path, tmp_path / "node", tmp_path / "c", simulated=True)
    save_merchant_data(data, tmp_path)
    (tmp_path / POLICY_FILE).write_text(POLICY)
    opened = MerchantWork(node)
    with pytest.raises(InputError):
        opened.prepare(b"not a basis", settings.to_flat())
    with pytest.raises(SettingsError):
        opened.prepare(basis.to_bytes(), {**settings.to_flat(), "rank": 0})
    with pytest.raises(InputError):
        opened.prepare(basis.to_bytes(), {**settings.to_flat(), "rank": 2})


def test_a_folder_without_a_shop_is_an_input_error(tmp_path):
    node = NodeSettings("ash", tmp_path, tmp_path / "node", tmp_path / "c", simulated=True)
    with pytest.raises(InputError):
        MerchantWork(node)


# --------------------------------------------------------------------- noise
def test_each_use_of_seeded_noise_is_a_stream_of_its_own(work, ground):
    draws = {
        (merchant, number, kind): tuple(stream.words(4).tolist())
        for merchant in ("ash", "birch")
        for number in (1, 2)
        for kind in ("train", "popularity")
        for stream in [_noise_of(work, merchant, number, kind)]
    }
    assert len(set(draws.values())) == len(draws)
    again = _noise_of(work, "ash", 1, "train").words(4)
    assert tuple(again.tolist()) == draws["ash", 1, "train"]


def _noise_of(work, merchant, number, kind):
    held = work._node
    work._node = replace(held, merchant=merchant)
    try:
        return work._noise(number, kind)
    finally:
        work._node = held


def test_without_a_seed_the_noise_is_secure(work):
    work._settings = work._settings.model_copy(update={"seeded_noise": False})
    first, again = (work._noise(1, "train") for _ in range(2))
    assert not first.seeded
    assert first.words(4).tolist() != again.words(4).tolist()


# ----------------------------------------------------------------- histogram
def test_a_shopper_of_n_items_adds_one_over_the_root_of_n_to_each():
    interactions = make_interactions(20, 12)
    found = purchases_histogram(interactions, make_plan())
    expected = np.zeros(20)
    for shopper in range(12):
        items = set(interactions.item[interactions.shopper == shopper].tolist())
        for item in items:
            expected[item] += 1 / math.sqrt(len(items))
    assert np.allclose(found.vector, expected, atol=1e-6)
    assert found.shoppers == 12


def test_one_shopper_moves_the_histogram_by_at_most_one():
    interactions, plan = make_interactions(20, 12), make_plan()
    whole = purchases_histogram(interactions, plan).vector
    for shopper in range(12):
        kept = np.delete(np.arange(12), shopper)
        less = purchases_histogram(interactions.only_shoppers(kept), plan).vector
        assert np.linalg.norm(whole - less) <= 1


def test_a_histogram_of_no_shopper_is_zero():
    interactions = make_interactions(20, 3).only_shoppers(np.empty(0, np.int64))
    assert not purchases_histogram(interactions, make_plan()).vector.any()


def test_the_ledger_is_bound_to_the_data(work, ground):
    settings, *_ = ground
    ledger = open_ledger(work._node.state / LEDGER_FILE, "ash")
    assert ledger.merchant == "ash"
    assert isinstance(plan_of(), PrivacyPlan)
    assert isinstance(ground[3], AdapterState)
    assert settings.seeded_noise


# ----------------------------------------------------------- preflight and canaries
def test_a_leaking_model_is_refused_with_a_code_before_anything_is_charged(
    shop, ground, monkeypatch
):
    honest = PrivateTrainer.shopper_gradients

    def in_batch(self, batch, _):
        bought = torch.from_numpy(np.unique(batch.target_item))
        return honest(self, batch, self.candidates(bought))

    with monkeypatch.context() as patch:
        patch.setattr(PrivateTrainer, "shopper_gradients", in_batch)
        patch.setattr("client.training.sensitivity_check._passed", set())  # a process of its own
        replies = shop.answers(plan_of(), ground[3], rounds=(1, 2))
    reasons = [reply.error.reason for reply in replies[2:]]
    assert reasons == ["privacy:sensitivity"] * 2  # on made-up shoppers: public
    ledger = shop.folder / "node" / LEDGER_FILE
    held = open_ledger(ledger, "ash").entries()
    assert [entry.kind for entry in held] == ["data", "popularity"]


def test_canaries_are_on_disk_before_an_update_leaves_and_open_on_request(shop, ground):
    plan = plan_of()
    replies = shop.answers(plan, ground[3], rounds=(1, 2))
    prepared = messages.decode_prepared(replies[0].content)
    [path] = (shop.folder / "node" / FOLDER).iterdir()
    held = CanaryRecord.from_bytes(path.read_bytes())
    assert held.rounds.tolist() == [1, 2]
    assert not held.revealed
    assert held.commitment == prepared.canaries_commitment
    sent = [vector_of(reply) for reply in replies[-2:]]
    digests = [hashlib.sha256(update.astype("<f4").tobytes()).digest() for update in sent]
    assert [row.tobytes() for row in held.updates] == digests
    request = canaries.encode_audit_request(plan.digest)
    for _ in range(2):
        opened = canaries.decode_audit(shop.ask(canaries.AUDIT, request).content, prepared, plan)
        assert opened.to_bytes() == held.open().to_bytes()


def test_an_update_whose_canaries_cannot_be_kept_does_not_leave(shop, ground, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CanaryBook, "save", full)
    replies = shop.answers(plan_of(), ground[3], rounds=(1,))
    assert replies[-1].error.reason == "disk:full"
