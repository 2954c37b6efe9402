"""A node's canaries: committed before training, kept over restarts, revealed once."""

import dataclasses
import stat

import numpy as np
import pytest

from client.privacy.canaries import FOLDER, CanaryBook
from common.errors import PrivacyError
from tests.support.shops import make_plan


@pytest.fixture
def book(tmp_path):
    return CanaryBook(tmp_path, "ash")


def test_the_commitment_stays_while_steps_come_and_processes_go(tmp_path, book):
    plan = make_plan()
    commitment = book.current(plan, 7, 16).commitment
    for number in (1, 2, 3):
        record = CanaryBook(tmp_path, "ash").to_train(plan, 7, 16)
        CanaryBook(tmp_path, "ash").save(record.observed(number, np.full(16, number), 1.0))
    revealed = CanaryBook(tmp_path, "ash").open(plan, 7, 16)
    assert revealed.commitment == commitment
    assert revealed.revealed
    assert revealed.rounds.tolist() == [1, 2, 3]
    assert revealed.canaries[:, 0].tolist() == [1, 2, 3]
    assert book.open(plan, 7, 16).to_bytes() == revealed.to_bytes()


def test_a_secret_is_for_its_owner_only(tmp_path, book):
    book.current(make_plan(), 7, 16)
    [path] = (tmp_path / FOLDER).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_runs_have_secrets_of_their_own(book):
    plan = make_plan()
    first, second = (book.current(plan, run, 256) for run in (7, -7))
    assert not np.array_equal(first.bits, second.bits)
    assert first.commitment != second.commitment
    assert book.current(plan, 7, 256).commitment == first.commitment


def test_a_seed_repeats_the_secret(tmp_path):
    books = [CanaryBook(tmp_path / name, "ash") for name in "ab"]
    found = [book.current(make_plan(), 1, 64, seed=3).commitment for book in books]
    assert found[0] == found[1]
    other = CanaryBook(tmp_path / "c", "birch").current(make_plan(), 1, 64, seed=3)
    assert not np.array_equal(other.bits, books[0].current(make_plan(), 1, 64, seed=3).bits)


def test_an_revealed_record_takes_no_step_and_a_new_one_starts(book):
    plan = make_plan()
    first = book.open(plan, 7, 16)
    assert book.current(plan, 7, 16).commitment == first.commitment
    second = book.to_train(plan, 7, 16)
    assert not second.revealed
    assert second.commitment != first.commitment


def test_another_plan_under_the_same_number_is_another_record(book):
    first = book.current(make_plan(), 7, 16)
    second = book.current(make_plan(sample_rate=0.1), 7, 16)
    assert second.commitment != first.commitment
    assert len(second.rounds) == 0


@pytest.mark.parametrize("changes", [{"dp_model": "central", "merchants": 2}, {}])
def test_only_local_noise_with_canaries_is_audited(tmp_path, book, changes):
    plan = dataclasses.replace(make_plan(), **changes)
    canaries = 16 if changes else 0
    assert book.current(plan, 7, canaries) is None
    assert book.to_train(plan, 7, canaries) is None
    assert book.open(plan, 7, canaries) is None
    assert not (tmp_path / FOLDER).exists()


def test_a_broken_file_is_an_error_and_not_a_new_secret(tmp_path, book):
    book.current(make_plan(), 7, 16)
    [path] = (tmp_path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PrivacyError) as caught:
        book.to_train(make_plan(), 7, 16)
    assert caught.value.public() == "privacy:canaries"
