"""One shop, one ledger, for life: no way of having its budget twice under one server's journal."""

import contextlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.privacy.budget import LEDGER_FILE, charge_round, open_for_use, open_ledger
from client.privacy.policy import Policy
from client.privacy.receipts import accept, covered
from client.privacy.recovery import recover
from client.privacy.retirement import retire
from common.errors import BudgetError, FederationError, LedgerError
from common.privacy.accounting.accountants import budget_share, merge
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.journal import read_journal
from common.wire.heads import JournalNote, with_head
from common.wire.messages import Prepared
from server.run.countersigning import Countersigning
from server.run.journal import Journal

PLAN = PrivacyPlan(
    sample_rate=1.0,
    steps=10,
    noise_multiplier=4.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-5,
    dp_model="local",
)
POLICY = Policy(max_epsilon=2.5)  # five rounds
SHOP = Prepared("shop", "digest", np.arange(1, dtype=np.uint64))


class Shop:
    """One merchant with as many node folders as it likes, and one server."""

    def __init__(self, root, *, enrolled=False):
        self.root, self.enrolled = root, enrolled
        self.journal = root / "server" / "journal.jsonl"
        self.folders: list[Path] = []
        self.imports, self.round = 0, 0
        self.import_of: dict[Path, str] = {}
        self.delivered: list = []  # what was charged for each reply that the server has
        self.backups: dict[Path, Path] = {}
        self.forked = False
        self.fresh()

    def path(self, folder):
        return folder / LEDGER_FILE

    def fresh(self, _=None):
        """A second folder over the same shop, with nothing in it."""
        self.folders.append(self.root / f"node-{len(self.folders)}")
        self.forked |= len(self.folders) > 1
        self.do_import(self.folders[-1])

    def do_import(self, folder):
        self.imports += 1
        self.import_of[folder] = f"import {self.imports}"

    def copy(self, folder):
        if not folder.exists():
            return
        self.forked = True
        self.folders.append(self.root / f"node-{len(self.folders)}")
        shutil.copytree(folder, self.folders[-1])
        self.import_of[self.folders[-1]] = self.import_of[folder]

    def back_up(self, folder):
        if folder.exists():
            self.backups[folder] = self.root / f"backup-{folder.name}"
            shutil.rmtree(self.backups[folder], ignore_errors=True)
            shutil.copytree(folder, self.backups[folder])

    def put_back(self, folder):
        if folder in self.backups:
            self.delete(folder)
            shutil.copytree(self.backups[folder], folder)

    def delete(self, folder):
        self.forked = True
        shutil.rmtree(folder, ignore_errors=True)

    def retire(self, folder):
        if self.path(folder).exists():
            self.forked = True
            retire(self.path(folder), "shop", "to try it")

    def recover(self, folder):
        if not self.journal.exists():
            return
        ledger = open_ledger(self.path(folder), "shop")
        with contextlib.suppress(LedgerError):  # nothing of this merchant in it yet
            recover(ledger, read_journal(self.journal.read_bytes()))

    def run(self, folder, rounds=1, *, lost=False):
        """What node and server do in a run; return why it ended early, if it did."""
        try:
            return self._run(folder, rounds, lost=lost)
        except (BudgetError, FederationError, LedgerError) as error:
            return error.field

    def _run(self, folder, rounds, *, lost):
        with Journal(self.journal, PLAN, "1") as journal:
            countersigner = Countersigning(journal, lambda _: self.enrolled)
            ledger = open_for_use(self.path(folder), "shop", self.import_of[folder])
            head = ledger.signed_head(covered(ledger, journal.signer))
            countersigner.check_head(SHOP, with_head(RecordDict(), head))
            for number in range(rounds):
                self.round += 1
                accept(ledger, JournalNote(journal.signer, journal.last.get("shop")))
                charge_round(ledger, PLAN, POLICY, "1", self.round, "train")
                if lost and number == rounds - 1:
                    return "lost"
                self.delivered.append(PLAN.event("train"))  # used or not: it has left the node
                head = ledger.signed_head(covered(ledger, journal.signer))
                countersigner.take("shop", with_head(RecordDict(), head))
                countersigner.close("train", self.round, ("shop",))
        return ""

    def charged(self):
        """Everything on the ledger of the only folder."""
        path = self.path(self.folders[0])
        return spent_events(open_ledger(path, "shop").entries()) if path.exists() else ()


def share(events):
    return budget_share(merge(events), POLICY.delta, POLICY.max_epsilon)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def spend(shop, folder):
    """Run until the node says no; return how many rounds it took part in, and why it ended."""
    for rounds in range(100):
        why = shop.run(folder)
        if why:
            return rounds, why
    raise AssertionError("The budget never ended.")


def test_importing_again_goes_on_with_the_same_budget(tmp_path):
    once, again = Shop(tmp_path / "once"), Shop(tmp_path / "again")
    rounds, why = spend(once, once.folders[0])
    assert (rounds > 1, why) == (True, "max_epsilon")
    for _ in range(rounds):
        assert again.run(again.folders[0]) == ""
        again.do_import(again.folders[0])
    assert again.run(again.folders[0]) == "max_epsilon"
    kinds = Counter(one.kind for one in open_ledger(again.path(again.folders[0]), "shop").entries())
    assert kinds == {"train": rounds, "data": rounds + 1}


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_second_folder_over_the_same_shop_is_refused(tmp_path, enrolled):
    shop = Shop(tmp_path, enrolled=enrolled)
    shop.run(shop.folders[0])
    shop.fresh()
    assert shop.run(shop.folders[1]) == ("rollback" if enrolled else "signer")
    assert shop.run(shop.folders[0]) == ""


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_second_folder_is_refused_also_where_the_first_ones_replies_were_lost(tmp_path, enrolled):
    shop = Shop(tmp_path, enrolled=enrolled)
    shop.run(shop.folders[0], lost=True)
    shop.fresh()
    assert shop.run(shop.folders[1]) in {"rollback", "signer"}


def test_of_a_folder_and_its_copy_only_one_goes_on(shop):
    first = shop.folders[0]
    shop.run(first)
    shop.copy(first)
    copied = shop.folders[1]
    assert shop.run(copied) == ""
    assert shop.run(first) == "rollback"
    shop.do_import(first)  # more entries than the copy: still another ledger
    shop.do_import(first)
    assert shop.run(first) == "rollback"
    shop.recover(first)
    assert shop.run(first) == ""
    assert shop.run(copied) == "rollback"


def test_a_deleted_folder_has_to_pay_for_what_it_spent(tmp_path):
    shop = Shop(tmp_path, enrolled=True)
    whole, _ = spend(shop, shop.folders[0])
    shop.delete(shop.folders[0])
    assert shop.run(shop.folders[0]) == "rollback"
    shop.recover(shop.folders[0])
    assert shop.run(shop.folders[0]) == "max_epsilon"
    assert share(shop.delivered) <= 1
    assert len(shop.delivered) == whole


ACTS = (
    *["run"] * 5, *["do_import"] * 2, *["recover"] * 2,
    "lose", "copy", "fresh", "back_up", "put_back", "delete", "retire",
)  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 5)), max_size=24),
    st.booleans(),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_sequence_of_acts_gets_more_than_the_ceiling(tmp_path_factory, acts, enrolled):
    """Imports, runs, lost replies, copies, second folders, backups, deletions, retirements.

    What the server got is within the ceiling always; and all that was charged, unless somebody made
    a second ledger: a reply of a copy that never arrived is on that copy alone.
    """
    shop = Shop(tmp_path_factory.mktemp("shop"), enrolled=enrolled)
    for act, place in acts:
        folder = shop.folders[place % len(shop.folders)]
        if act == "lose":
            shop.run(folder, 2, lost=True)
        elif act == "run":
            shop.run(folder, 2)
        else:
            getattr(shop, act)(folder)
        assert share(shop.delivered) <= 1
        if not shop.forked:
            assert share(shop.charged()) <= 1
