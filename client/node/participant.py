"""What a node does with its shop's data: encode, count, train. Every use is charged first.

With distributed noise what it makes of a use is a share: integers that leave under a mask only
(`client.node.secure_party`).
"""

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from client.node.popularity import places_in, purchases_histogram
from client.node.season import season_sum
from client.node.secure_party import Agreed, SecureParty
from client.node.settings import NodeSettings
from client.node.shared_encoding import shared_encoding
from client.privacy.app_guard import check_guarded
from client.privacy.budget import LEDGER_FILE, charge_round, open_for_use
from client.privacy.canaries import CanaryBook
from client.privacy.contributions import sign_contribution
from client.privacy.policy import check_declared, read_policy
from client.privacy.receipts import accept, covered
from client.shop.dataset import load_merchant_data
from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ShopperExamples
from client.training.sensitivity_check import check_once, made_up_shoppers
from client.training.threads import one_thread
from common.adapter import AdapterState, AdapterUpdate
from common.encoder.catalogue_encoder import EncodedCatalogue, candidate_tensor
from common.encoder.public_basis import PublicBasis
from common.errors import FederationError
from common.files import sha256_hex
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.contributions import Contribution, Purpose
from common.privacy.ledger.heads import Head
from common.privacy.ledger.ledger import Charge
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.clipping import ClippedSum
from common.privacy.mechanism.noise import NoiseSource, protect
from common.privacy.mechanism.rounding import rounded
from common.privacy.mechanism.shares import ProtectedShare, protect_share
from common.privacy.mechanism.sum_canaries import owned_canaries
from common.release.app_bundle import app_digest
from common.settings.run import RunSettings, run_digest
from common.wire.heads import JournalNote
from common.wire.messages import Prepared, Scalar

Made = TypeVar("Made")


class MerchantWork:
    """One merchant's part in a run."""

    def __init__(self, node: NodeSettings) -> None:
        """Read the shop's data and policy and open its ledger.

        Raises:
            InputError: if there is no data set, or it is altered.
            SettingsError: if the policy file has an unknown name or a value out of bounds.
            PolicyError: if nothing outside this code has checked whose it is, or the catalogue was
                learnt from purchases; neither depends on what was bought.
            LedgerError: if the ledger cannot be trusted.
        """
        self._node = node
        self._data = load_merchant_data(node.data)
        self._policy = read_policy(node.data)
        if not node.simulated:
            check_guarded(node.data)
            check_declared(declared=self._data.catalogue_declared)
        self._ledger = open_for_use(node.state / LEDGER_FILE, node.merchant, self._data.import_id)
        self._canaries = CanaryBook(node.state, node.merchant)
        self._settings: RunSettings | None = None
        self._trainer: PrivateTrainer | None = None
        self._shoppers: ShopperExamples | None = None
        self._sealing: CanaryRecord | None = None  # of the update that leaves next
        self._model = self._setup = ""
        self._vectors: NDArray[np.float32] | None = None  # of the items; public
        self._encoded: EncodedCatalogue | None = None

    def prepare(self, basis: bytes, settings: Mapping[str, Scalar]) -> Prepared:
        """Encode the catalogue, or find it encoded on disk, and return the public facts.

        Raises:
            SettingsError: if a setting is unknown or out of bounds.
            PolicyError: if a setting is outside the policy.
            InputError: if the basis does not fit the base model.

        Formal guarantee:
            What it returns or raises depends on public facts alone: the trainer stands on made-up
            shoppers until a round is charged.
        """
        self._settings = self._trainer = self._shoppers = self._vectors = self._encoded = None
        asked = RunSettings.from_flat(settings)
        # Not only before a charge: the run's canaries start here, and must not come from a seed.
        self._policy.check_seeds(seeded_noise=asked.seeded_noise)
        public = PublicBasis.from_bytes(basis)
        self._policy.check_public(asked.temperature, public.largest_norm)
        self._settings = asked
        self._model = run_digest(asked.to_flat(), basis)
        self._setup = run_digest(settings, basis)
        encoded = shared_encoding(
            self._data.catalogue, public, asked, self._node.cache, self._model
        )
        self._encoded = encoded
        self._vectors = encoded.vectors
        merchant = Merchant(
            examples=ShopperExamples(made_up_shoppers(len(self._data.catalogue)), asked),
            tokens=encoded.tokens,
            vectors=candidate_tensor(encoded),
            log_popularity=torch.zeros(len(self._data.catalogue), device=encoded.encoder.device),
        )
        self._trainer = PrivateTrainer(encoded.encoder, merchant, asked)
        return Prepared(
            self._node.merchant,
            self._data.catalogue.digest,
            self._data.catalogue.text_keys,
            base_model=encoded.base_model,
        )

    def popularity(self, plan: PrivacyPlan, run_id: int, round_number: int) -> NDArray[np.float32]:
        """Charge the plan's histogram and return the noised counts, float32 [items].

        Raises:
            BudgetError, PolicyError, LedgerError: nothing is charged or counted then.
        """
        charge = self._charge(plan, run_id, round_number, "popularity")
        counted = protect(
            purchases_histogram(self._data.interactions, plan),
            charge,
            self._noise(round_number, "popularity"),
        )
        return counted.vector.astype(np.float32)

    def popularity_share(
        self, plan: PrivacyPlan, run_id: int, index: NDArray[np.uint64]
    ) -> ProtectedShare:
        """Charge the plan's histogram and return the counts with a share of noise [k].

        Args:
            plan: The run's.
            run_id: The run.
            index: uint64 [k], ascending: the text keys that are counted.

        Raises:
            FederationError: `index` if an item of this node is not among them.
            BudgetError, PolicyError, LedgerError: nothing is charged or counted then.
        """
        places = places_in(index, self._data.catalogue.text_keys)
        charge = self._charge(plan, run_id, 0, "popularity")
        counted = purchases_histogram(self._data.interactions, plan, places, len(index))
        return protect_share(counted, charge, self._noise(0, "popularity"))

    @one_thread()
    def season(self, plan: PrivacyPlan, run_id: int) -> NDArray[np.float32]:
        """Charge the plan's season and return the noised vector, float32 [ends * d].

        When it ends is told by the run's settings, never by the shop's last purchase.

        Raises:
            FederationError: if the node is not prepared, or the run names no end of a season.
            BudgetError, PolicyError, LedgerError: nothing is charged or read then.
        """
        charge, summed = self._season(plan, run_id)
        return protect(summed, charge, self._noise(0, "season")).vector.astype(np.float32)

    @one_thread()
    def season_share(self, plan: PrivacyPlan, run_id: int) -> ProtectedShare:
        """Charge the plan's season and return it with a share of noise [ends * d].

        Raises:
            As `season`.
        """
        charge, summed = self._season(plan, run_id)
        return protect_share(summed, charge, self._noise(0, "season"))

    def _season(self, plan: PrivacyPlan, run_id: int) -> tuple[Charge, ClippedSum]:
        if self._vectors is None or self._settings is None:
            raise FederationError("The node is not prepared for this run.", field="prepare")
        ends = self._settings.season_moments
        if not ends:
            raise FederationError("The run's settings name no season.", field="season_ends")
        charge = self._charge(plan, run_id, 0, "season")
        return charge, season_sum(self._data.interactions, self._vectors, ends, plan)

    @one_thread()
    def train(
        self,
        adapter: AdapterState,
        popularity: NDArray[np.float32] | None,
        plan: PrivacyPlan,
        run_id: int,
        round_number: int,
    ) -> AdapterUpdate:
        """Charge a round and return the protected update.

        Raises:
            BudgetError, PolicyError, LedgerError: nothing is charged or trained then.
            PrivacyError: the same, if a made-up shopper moves this model by more than C.
            FederationError: if the node is not prepared, or the plan has no such round.

        Formal guarantee:
            Until the charge is on disk, nothing here reads a shopper: what is raised before
            depends on public facts and the ledger alone.
        """
        step = PrivateTrainer.private_round
        vector, canaries = self._step(adapter, popularity, plan, run_id, round_number, step)
        if plan.dp_model == "local":  # what is not private on its own is not rounded
            vector = rounded(vector)
        if canaries is not None:
            # Before the update leaves: what was sent is on record.
            canaries = canaries.bound_to(vector)
            self._canaries.save(canaries)
        self._sealing = canaries
        return AdapterUpdate(vector, round_number, plan.digest)

    @one_thread()
    def train_share(
        self,
        adapter: AdapterState,
        popularity: NDArray[np.float32] | None,
        plan: PrivacyPlan,
        run_id: int,
        round_number: int,
    ) -> ProtectedShare:
        """Charge a round and return its clipped sum with a share of noise [k].

        Raises:
            As `train`.

        Formal guarantee:
            As `train` until the charge; what it returns may leave under a mask only.
        """
        canaries, own = self._audit()[0], None
        if canaries:
            roster = self.party(plan, run_id).names
            own = owned_canaries(roster, self._node.merchant, canaries)
        step = functools.partial(PrivateTrainer.private_share, own=own)
        return self._step(adapter, popularity, plan, run_id, round_number, step)

    def _step(  # noqa: PLR0917 - as `train`, and how
        self,
        adapter: AdapterState,
        popularity: NDArray[np.float32] | None,
        plan: PrivacyPlan,
        run_id: int,
        round_number: int,
        step: Callable[..., Made],
    ) -> Made:
        if self._trainer is None or self._settings is None:
            raise FederationError("The node is not prepared for this run.", field="prepare")
        if not 1 <= round_number <= plan.rounds:
            raise FederationError("The plan has no such round.", field="round")
        self._policy.check_popularity(popularity)
        self._trainer.set_popularity(popularity)
        self._check_model(self._trainer, adapter, plan)
        canaries = self._canaries.to_train(plan, run_id, *self._audit())
        charge = self._charge(plan, run_id, round_number, "train")
        stream = int(sha256_hex(self._node.merchant.encode())[:12], 16)
        if self._shoppers is None:
            self._shoppers = ShopperExamples(self._data.interactions, self._settings)
        with self._trainer.training_on(self._shoppers):
            return step(
                self._trainer,
                adapter,
                charge,
                self._noise(round_number, "train"),
                np.random.default_rng((self._settings.seed, round_number, stream)),
                canaries,
            )

    def party(self, plan: PrivacyPlan, run_id: int) -> SecureParty:
        """Return this node's party in the run's secure sum.

        Raises:
            FederationError: `prepare` if the node is not prepared; `dp_model` if the plan's noise
                is not shared, so that nothing is summed under masks.
        """
        if self._trainer is None or self._settings is None or self._vectors is None:
            raise FederationError("The node is not prepared for this run.", field="prepare")
        if plan.dp_model != "distributed":
            raise FederationError("The plan's noise is not distributed.", field="dp_model")
        season = len(self._settings.season_moments) * self._vectors.shape[1]
        train = self._trainer.width + self._settings.audit_canaries
        agreed = Agreed(train, season, self._setup)
        least = self._policy.min_cohort
        return SecureParty(self._node.state, self._ledger, plan, run_id, agreed, least)

    def accept(self, note: JournalNote | None) -> None:
        """Keep the receipt that a request brings.

        Raises:
            LedgerError: if the ledger lacks what was countersigned.
        """
        accept(self._ledger, note)

    def head(self, journal: str) -> Head:
        """Return the ledger's head, signed, as it builds on this journal's last receipt.

        Raises:
            LedgerError: if the ledger cannot be trusted, or lacks what was countersigned.
        """
        return self._ledger.signed_head(covered(self._ledger, journal))

    def contribution(self, vector: NDArray[np.float32], purpose: Purpose) -> Contribution:
        """Sign a protected vector that is about to leave, with the seal of its canaries.

        Raises:
            LedgerError: if the node's word cannot be kept; nothing may leave then.
            PrivacyError: if it is not the update that the last canaries are bound to.
        """
        watched = self._sealing if purpose.kind == "train" else None
        seal = "" if watched is None else watched.seal(vector)
        return sign_contribution(self._ledger, vector, purpose, seal)

    def commitment(self, plan: PrivacyPlan, run_id: int) -> str:
        """Return the commitment to the run's canaries; empty where it is not audited.

        Raises:
            PrivacyError: if the record on disk is not one.
        """
        record = self._canaries.current(plan, run_id, *self._audit())
        return "" if record is None else record.commitment

    def revealed_canaries(self, plan: PrivacyPlan, run_id: int) -> CanaryRecord | None:
        """Open the run's canaries for good and return them; None where it is not audited.

        What is opened is virtual shoppers and the noise on them. It has no part in the noise or
        the coins of a real one, which come from another stream.

        Raises:
            PrivacyError: if the record on disk is not one.
        """
        return self._canaries.open(plan, run_id, *self._audit())

    def _check_model(
        self, trainer: PrivateTrainer, adapter: AdapterState, plan: PrivacyPlan
    ) -> None:
        """Replay a step on made-up shoppers before the first round of a model on this node.

        Raises:
            PrivacyError: as `check_once`.
        """
        key = sha256_hex(repr((self._model, self._data.catalogue.digest)).encode())
        check_once(self._node.state, key, trainer, adapter, plan)

    def _audit(self) -> tuple[int, int | None]:
        """Return how many canaries the run has, and the seed of their bits in a test run."""
        if self._settings is None:
            return 0, None
        seed = self._settings.seed if self._settings.seeded_noise else None
        return self._settings.audit_canaries, seed

    def public_metrics(self) -> Mapping[str, float]:
        """Return no metric: what the server needs it computes from the plan.

        Raises:
            PolicyError: if there were one that the policy does not let out.
        """
        metrics: dict[str, float] = {}
        self._policy.check_metrics(metrics)
        return metrics

    def _charge(self, plan: PrivacyPlan, run_id: int, round_number: int, kind: EventKind) -> Charge:
        settings = self._settings
        cohort = None if settings is None else settings.min_merchants
        if plan.dp_model == "distributed":
            cohort = plan.least_merchants  # a sum may be over no more
        return charge_round(
            self._ledger,
            plan,
            self._policy,
            str(run_id),
            round_number,
            kind,
            seeded_noise=settings is not None and settings.seeded_noise,
            cohort=cohort,
            app_digest=app_digest(),
        )

    def _noise(self, round_number: int, kind: EventKind) -> NoiseSource:
        """Return a fresh stream: secure, or repeating where the run is declared a test."""
        if self._settings is not None and self._settings.seeded_noise:
            seed = self._settings.seed
            return NoiseSource.for_tests(seed, self._node.merchant, round_number, kind)
        return NoiseSource.secure()
