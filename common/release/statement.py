"""The privacy statement: what a release costs a shopper, as a record that is signed with it.

A reader of the record believes nothing that can be computed: an auditor computes every number
again from the ledgers, the journal and the revealed canaries. `common.release.statement_page` says
the same in words.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from common.errors import SettingsError
from common.privacy.accounting.plan import PrivacyPlan
from common.record import FrozenMap, Record, Sha256

DpModel = Literal["none", "local", "distributed", "central"]
Unit = Literal["one shopper at one merchant, added or removed"]
UNIT: Final[Unit] = "one shopper at one merchant, added or removed"

# What no number here covers; `common.release.statement_page` has the sentence for each.
NotProtected = Literal[
    "participation",
    "public facts",
    "truths in general",
    "several accounts",
    "time and size",
    "own recommendations",
    "tuning",
    "whole merchants",
    "machine and code",
]
NOT_PROTECTED: Final[tuple[NotProtected, ...]] = get_args(NotProtected)


class Accountants(Record):
    """The same history counted by several accountants; null where one was not asked."""

    pld: float | None = Field(default=None, ge=0, description="dp_accounting, loss distribution")
    prv: float | None = Field(default=None, ge=0, description="Opacus, PRV")
    rdp: float | None = Field(default=None, ge=0, description="Renyi; the ledger gates on it")


class NeighboursCost(Record):
    """Epsilon for the two kinds of neighbours, at the plan's delta."""

    add_or_remove: float = Field(ge=0, description="One shopper more or less")
    replace_one: float = Field(ge=0, description="One shopper in the place of another")


class AuditedNoise(Record):
    """How much noise the canaries held that are not in the data."""

    deviation: float | None = Field(
        ge=0, description="Root mean square of their noise, in units of sigma; null: no step"
    )
    chance: float = Field(
        ge=0, le=1, description="At most how often an honest run looks as short of noise"
    )
    draws: int = Field(ge=0, description="How many draws of noise were seen")
    refuted: bool = Field(
        description="Whether the chance is below 1 in 10,000; no such claim is written or read"
    )


class AuditedBound(Record):
    """What a merchant's canaries prove it spent at least, with confidence 95%."""

    epsilon: float = Field(ge=0, description="Lower bound at the claim's delta, Gaussian test")
    blocking: float = Field(
        ge=0, description="The same with confidence 99.99%; no claim below it is written or read"
    )
    one_run: float = Field(ge=0, description="The same, assuming nothing of scores; weak")
    canaries: int = Field(ge=1, description="Canaries: virtual shoppers that were watched")
    steps: int = Field(ge=0, description="Noised steps they were watched for")
    noise: AuditedNoise | None = Field(
        default=None, description="How much noise was measured; null: it was not"
    )
    commitment: Sha256 = Field(description="Told before training; the revealed canaries match it")


class MerchantPrivacy(Record):
    """What one merchant's shoppers were charged; null epsilon and delta mean no guarantee."""

    epsilon: float | None = Field(
        ge=0,
        description="Epsilon over the whole ledger: by PLD where it holds this one plan and "
        "nothing else, by the filter where it holds more; null: no guarantee",
    )
    delta: float | None = Field(gt=0, lt=1, description="Delta; null: no guarantee")
    accountants: Accountants = Field(
        default_factory=Accountants, description="Epsilon at this delta by each accountant"
    )
    ledger: NeighboursCost | None = Field(
        default=None,
        description="Over all of the ledger by the Renyi filter: the least ceiling, fixed "
        "beforehand, that lets it pass, however later runs were chosen; null: no guarantee",
    )
    noise_multiplier: float = Field(ge=0, description="Noise sigma, in units of max_grad_norm")
    sample_rate: float = Field(ge=0, le=1, description="Chance of a shopper to be in a step (q)")
    steps: int = Field(ge=0, description="Noised steps over all rounds (T)")
    max_grad_norm: float = Field(gt=0, description="Bound on one shopper's gradient norm (C)")
    audit: AuditedBound | None = Field(
        default=None, description="What the run's audit measured; null: not audited"
    )


def _file_name(node: str) -> str:
    if node.startswith(".") or not node.isprintable() or set(node) & set("/\\"):
        raise ValueError("a node's name must be printable, without a slash or a leading dot")
    return node


class LedgerRecord(Record):
    """Where a merchant's ledger stood when the release was made; epsilon is over all of it.

    Attributes:
        node: The merchant's name on its ledger and on the journal, and that of its exported file.
        entries: How many entries it had; whoever took part has at least one.
        hash: Of the last one.
        signer: The node's public key, hex.
    """

    node: Annotated[str, Field(min_length=1), AfterValidator(_file_name)]
    entries: int = Field(ge=1)
    hash: Sha256
    signer: Sha256


class JournalRecord(Record):
    """Where the server's journal stood: how many entries, the last one's hash, its key in hex."""

    entries: int = Field(ge=1)
    hash: Sha256
    key: Sha256


class NoiseRecord(Record):
    """How the noise was made.

    Attributes:
        sampler: Each shopper takes part in a step by a coin flip of its own.
        distribution: Drawn, before it is rounded; `discrete gaussian` where merchants add shares.
        generator: Of the random bits.
        arithmetic: Of sum and noise.
        cut_at: No value past so many standard deviations is drawn, or leaves.
        seeded: Whether the key came from a fixed seed: then nobody is protected.
    """

    sampler: Literal["poisson"] = "poisson"
    distribution: Literal["gaussian", "discrete gaussian"] = "gaussian"
    generator: Literal["AES-256-CTR"] = "AES-256-CTR"
    arithmetic: Literal[
        "float64, rounded to the grid of the sum", "integers on the grid of the sum, modulo 2^64"
    ] = "float64, rounded to the grid of the sum"
    cut_at: Literal[12, 64] = 12
    seeded: bool


class AbsentCost(Record):
    """Epsilon of a run's plan, by PLD, with so many merchants missing or with the server."""

    absent: int = Field(ge=0)
    epsilon: float = Field(ge=0)


class SeveralMerchants(Record):
    """Epsilon of a shopper at several merchants of the run, with noise at each and on the sum."""

    merchants: int = Field(ge=1)
    local: float = Field(ge=0)
    central: float = Field(ge=0)


class AuditMethod(Record):
    """How the lower bounds were found, with which confidence, and with which one blocks a claim."""

    method: Literal["canaries"] = "canaries"
    blocking: Literal["gaussian test"] = "gaussian test"
    beside: Literal["one-run bound"] = "one-run bound"
    confidence: float = Field(gt=0, lt=1)
    blocking_confidence: float = Field(gt=0, lt=1)


class Statement(Record):
    """All that a release says about privacy.

    Attributes:
        unit: Whom the guarantee is about, and how neighbours differ.
        DP model: Where the noise was added; `none` means there is no guarantee.
        plan: The privacy plan's own fields, all of them.
        run: What the plan alone costs, fixed beforehand, by PLD; null without noise.
        sizes: Whether size bracket and delta were declared, or a simulation took them from counts
            of shoppers.
        run_ids: The numbers on the journal of the run that the adapter comes from: it has one for
            each start.
        noise: How the noise was made.
        accountants: The package and version behind each accountant's values.
        merchants: What each merchant's shoppers were charged over everything on its ledger.
        ledgers: Where each of these ledgers stood.
        journal: Where the server's journal stood; null where none was kept.
        several: For a shopper at 1 to 5 merchants; empty without a guarantee.
        absent: For 0, 1, ... merchants missing from the sums or with the server, up to those that
            the plan spares; empty unless the noise is distributed, and not told then.
        audit: How the lower bounds were found.
        tuning: What trying out settings cost is in no number here.
        code_sha256: Of the source files that made the release (`common.release.code_digest`).
        app_sha256: Of each app bundle that the run's server ran, as the journal has it
            (`common.release.app_bundle`); empty where it is not known.
        not_protected: What no number here covers.
    """

    unit: Unit = UNIT
    dp_model: DpModel
    plan: FrozenMap[JsonValue]
    run: NeighboursCost | None
    sizes: Literal["declared", "counted"]
    run_ids: tuple[str, ...]
    noise: NoiseRecord
    accountants: FrozenMap[str]
    merchants: FrozenMap[MerchantPrivacy]
    ledgers: FrozenMap[LedgerRecord]
    journal: JournalRecord | None
    several: tuple[SeveralMerchants, ...]
    audit: AuditMethod
    tuning: Literal["not covered"] = "not covered"
    code_sha256: Sha256
    app_sha256: tuple[Sha256, ...]
    absent: tuple[AbsentCost, ...] = ()
    not_protected: tuple[NotProtected, ...] = NOT_PROTECTED

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        check_claims(self.dp_model, self.merchants)
        check_audits(self.merchants)
        _check_plan(self)
        _check_parts(self)
        _check_shares(self)
        return self

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what older statements lack, so that they keep their bytes."""
        fields: dict[str, object] = handler(self)
        if not self.absent:
            del fields["absent"]
        return fields

    @property
    def privacy_plan(self) -> PrivacyPlan:
        """The plan as the sampler, the clip, the noise and the accountants read it."""
        return PrivacyPlan.from_json(json.dumps(dict(self.plan)))


def check_audits(merchants: Mapping[str, MerchantPrivacy]) -> None:
    """Refuse a claim that its own audit disproves.

    Raises:
        ValueError: so that pydantic reports it as the field's error.
    """
    for name, merchant in merchants.items():
        proved = 0.0 if merchant.audit is None else merchant.audit.blocking
        if merchant.epsilon is not None and proved > merchant.epsilon:
            raise ValueError(
                f"merchant {name!r} claims epsilon {merchant.epsilon:.3f}, but its canaries "
                f"prove at least {proved:.3f}"
            )
        noise = None if merchant.audit is None else merchant.audit.noise
        if noise is not None and noise.refuted:
            raise ValueError(
                f"merchant {name!r} claims noise that its canaries do not show: "
                f"{noise.deviation or 0:.3f} of it was measured"
            )


def check_claims(dp_model: DpModel, merchants: Mapping[str, MerchantPrivacy]) -> None:
    """Refuse an epsilon without noise, and noise without an epsilon.

    Raises:
        ValueError: so that pydantic reports it as the field's error.
    """
    for name, merchant in merchants.items():
        claimed = merchant.epsilon is not None and merchant.delta is not None
        if dp_model == "none" and (merchant.epsilon is not None or merchant.delta is not None):
            raise ValueError(f"merchant {name!r} claims epsilon or delta, but no noise was added")
        if dp_model != "none" and not claimed:
            raise ValueError(f"merchant {name!r} lacks epsilon or delta, though noise was added")


def _check_plan(statement: Statement) -> None:
    try:
        plan = statement.privacy_plan
    except SettingsError as error:
        raise ValueError(f"the plan is not one: {error}") from None
    if plan.dp_model != statement.dp_model:
        raise ValueError("the plan places the noise elsewhere than the statement says")
    stated = (plan.noise_multiplier, plan.sample_rate, plan.steps, plan.max_grad_norm)
    for name, one in statement.merchants.items():
        if (one.noise_multiplier, one.sample_rate, one.steps, one.max_grad_norm) != stated:
            raise ValueError(f"merchant {name!r} has other numbers than the plan")
        if one.delta not in {None, plan.delta}:
            raise ValueError(f"merchant {name!r} has another delta than the plan")


def _same_file(node: str) -> str:
    """Return what is equal of two names that some disks take for one file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", node).casefold())


def _check_parts(statement: Statement) -> None:
    if statement.ledgers.keys() != statement.merchants.keys():
        raise ValueError("there must be one ledger for each merchant")
    nodes = {_same_file(one.node) for one in statement.ledgers.values()}
    if len(nodes) != len(statement.ledgers):
        raise ValueError("two merchants name one ledger")
    if list(statement.run_ids) != sorted(set(statement.run_ids)):
        raise ValueError("the run's numbers must be sorted, each once")
    if statement.accountants.keys() != {"pld", "prv", "rdp"}:
        raise ValueError("the accountants must be pld, prv and rdp")
    if statement.not_protected != NOT_PROTECTED:
        raise ValueError("what is not protected must be told whole")
    promised = statement.dp_model != "none"
    costs = (statement.run, *(one.ledger for one in statement.merchants.values()))
    if any((one is not None) != promised for one in costs):
        raise ValueError("run and ledger must be told for both kinds of neighbours, with noise")
    told = tuple(one.merchants for one in statement.several)
    if told != (() if statement.dp_model == "none" else (1, 2, 3, 4, 5)):
        raise ValueError("a shopper at 1 to 5 merchants must be told, and only with noise")


def _check_shares(statement: Statement) -> None:
    shared = statement.dp_model == "distributed"
    told = tuple(one.absent for one in statement.absent)
    if told != (tuple(range(statement.privacy_plan.spared + 1)) if shared else ()):
        raise ValueError("epsilon must be told for each number of absent merchants that is spared")
    values = [one.epsilon for one in statement.absent]
    if values != sorted(values):
        raise ValueError("epsilon must not fall where more merchants are absent")
    if (statement.noise.distribution == "discrete gaussian") != shared:
        raise ValueError("noise is discrete where it is shared, and nowhere else")
