"""What another run would cost a shop, from its ledger and policy, before anything is charged."""

from collections.abc import Sequence
from dataclasses import dataclass

from client.privacy.budget import counted_events, plan_that_fits
from client.privacy.policy import Policy
from common.errors import PolicyError
from common.privacy.accounting.accountants import budget_share, epsilon_pld
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.entry import Entry, spent_events


@dataclass(frozen=True)
class NextRun:
    """A run's cost beside what is left.

    Attributes:
        entries: On the ledger.
        spent: Epsilon of all of them at the policy's delta, by PLD.
        spent_share: Of the budget, by the filter that the ledger gates on: 1 is all of it.
        max_epsilon: The policy's ceiling.
        delta: The policy's.
        budget_days: The span that the ceiling counts; 0 is a life.
        rounds: Of the run.
        run_epsilon: Of the run alone, by PLD.
        round_share: Of the budget, what its next round takes.
        run_share: Of the budget, what all of the run takes.
        fits: Whether the ceiling covers the whole run after what is spent.
        refused: Why the policy refuses such a run whatever is left; "" if it does not.
        noise_that_fits: The noise multiplier with which the whole run would fit; None if none does,
            or it fits as it is.
    """

    entries: int
    spent: float
    spent_share: float
    max_epsilon: float
    delta: float
    budget_days: int
    rounds: int
    run_epsilon: float
    round_share: float
    run_share: float
    fits: bool
    refused: str
    noise_that_fits: float | None

    @property
    def left_share(self) -> float:
        """What is left of the budget, from 0 to 1."""
        return min(max(1 - self.spent_share, 0.0), 1.0)


def next_run(entries: Sequence[Entry], policy: Policy, plan: PrivacyPlan) -> NextRun:
    """Return what a run of `plan` would cost after what the ledger holds. Nothing is charged.

    Raises:
        PrivacyError: if the accounting fails.
    """
    counted = counted_events(entries, policy)
    share = budget_share(counted, policy.delta, policy.max_epsilon)
    whole = budget_share((*counted, *plan.events()), policy.delta, policy.max_epsilon)
    kind: EventKind = "train" if plan.trains else "season"
    one = budget_share((*counted, plan.event(kind)), policy.delta, policy.max_epsilon)
    fits = whole <= 1
    quieter = None if fits else plan_that_fits(counted, plan, policy)
    return NextRun(
        entries=len(entries),
        spent=epsilon_pld(spent_events(entries), policy.delta),
        spent_share=share,
        max_epsilon=policy.max_epsilon,
        delta=policy.delta,
        budget_days=policy.budget_days,
        rounds=plan.steps // plan.steps_per_round,
        run_epsilon=epsilon_pld(plan.events(), policy.delta),
        round_share=one - share,
        run_share=whole - share,
        fits=fits,
        refused=_refusal(policy, plan),
        noise_that_fits=None if quieter is None else _noise(quieter),
    )


def _noise(plan: PrivacyPlan) -> float:
    """Return the noise multiplier of a plan's training, or of all that a refresh takes."""
    return plan.noise_multiplier if plan.trains else plan.season_noise_multiplier


def _refusal(policy: Policy, plan: PrivacyPlan) -> str:
    try:
        policy.check(plan, cohort=policy.min_cohort)  # how many take part is not known before
    except PolicyError as error:
        return str(error)
    return ""
