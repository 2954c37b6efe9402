"""Charge the merchant's ledger for a round, or refuse: the only way to a Charge.

The budget is over everything the ledger holds: every round, run and federation that used this
merchant's shoppers, also those that failed or came too late, whatever was imported in between. A
policy may count a span of days instead of a life (`budget_days`).
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

from client.privacy.policy import Policy
from client.privacy.receipts import check_receipts
from common.errors import BudgetError
from common.privacy.accounting.accountants import (
    AccountantReport,
    Events,
    MechanismEvent,
    account,
    budget_share,
    epsilon_pld,
    epsilon_rdp,
)
from common.privacy.accounting.plan import MAX_NOISE, EventKind, PrivacyPlan
from common.privacy.ledger.entry import DAY_SECONDS, Entry, day_of, spent_events
from common.privacy.ledger.ledger import Charge, Ledger

LEDGER_FILE = "ledger.sqlite"  # in the node's folder
MOST_REFRESHES = 100_000  # that are counted


def open_ledger(path: Path, merchant: str) -> Ledger:
    """Open the ledger of a merchant's shop, or start one. Nothing is written to one that is there.

    Raises:
        LedgerError: as `Ledger.open`.
    """
    return Ledger.open(path, merchant)


def open_for_use(path: Path, merchant: str, import_id: str) -> Ledger:
    """Open the ledger for a shop's data, and note the import that they came from, once for each.

    Raises:
        LedgerError: as `Ledger.open` and `Ledger.note_import`.
    """
    ledger = Ledger.open(path, merchant)
    ledger.note_import(import_id)
    return ledger


def charge_round(  # noqa: PLR0917 - each is of another type or named as in an Entry
    ledger: Ledger,
    plan: PrivacyPlan,
    policy: Policy,
    run_id: str,
    round_number: int,
    kind: EventKind,
    *,
    seeded_noise: bool = False,
    cohort: int | None = None,
    app_digest: str = "",
) -> Charge:
    """Put one round's cost on the ledger and return the charge that pays for it.

    A repeated call for the same round is charged again: the ledger cannot know whether the first
    one's noise was drawn. Whoever receives messages drops duplicates before.

    Args:
        ledger: The merchant's.
        plan: The run's.
        policy: The merchant's.
        run_id: The run.
        round_number: From 1; 0 for what comes before the first round.
        kind: `train`, `popularity` or `season`.
        seeded_noise: Whether the run draws noise from a fixed seed (tests); goes on record.
        cohort: The fewest merchants the run starts with, as its settings say; None: unknown.
        app_digest: SHA-256 of the app bundle that trains on it, for the record.

    Raises:
        PolicyError: if the plan is below the policy.
        BudgetError: if the policy's ceiling does not cover the round; says what is left. Also if
            noise from a fixed seed was ever drawn under this ledger, and this run's is not.
        LedgerError: if the ledger cannot be written or trusted, or rolled back behind a receipt.
        Nothing is charged in any of these cases.

    Formal guarantee:
        With `policy.budget_days` 0, all releases ever made under this ledger's charges together are
        (policy.max_epsilon, policy.delta)-DP for one shopper added or removed, adaptively chosen
        or not (see `budget_share`), for as long as the ceiling and delta stay the same. With
        `budget_days` D, the same holds for what is charged in any D times 24 hours on end, by the
        node's clock; k such spans together are (k max_epsilon, k delta)-DP by basic composition.
    """
    policy.check(plan, seeded_noise=seeded_noise, cohort=cohort)
    if kind == "season":
        policy.check_season()

    def admit(entries: tuple[Entry, ...]) -> None:
        check_receipts(ledger.path, entries)
        if not seeded_noise and any(entry.seeded_noise for entry in entries):
            # Whoever knows the seed has had the sums bare: no later noise makes that finite.
            raise BudgetError(
                "This ledger holds rounds with noise from a fixed seed, which protected nobody: no "
                "run on the same data can promise anything any more. Tests belong on a copy of "
                "the shop with made-up shoppers.",
                field="seeded_noise",
            )
        spent = counted_events(entries, policy)
        after = budget_share((*spent, plan.event(kind)), policy.delta, policy.max_epsilon)
        if after > 1:
            raise BudgetError(_refusal(spent, plan, policy, kind), field="max_epsilon")

    return ledger.append(
        plan,
        run_id=run_id,
        round_number=round_number,
        kind=kind,
        admit=admit,
        seeded_noise=seeded_noise,
        app_digest=app_digest,
    )


def counted_events(entries: Sequence[Entry], policy: Policy) -> Events:
    """Return what counts against the ceiling today: all of it, or the last `budget_days` days.

    Entries say the day alone, so the day on which the span began counts as a whole: any
    `budget_days` times 24 hours lie in the days that are counted, also from one minute before
    midnight on. Today is the node's day, or the last entry's where that is later: a clock that is
    set back brings nothing back. A recovery counts from the day it was written.
    """
    if not policy.budget_days:
        return spent_events(entries)
    today = max([day_of(time.time()), *(day_of(one.time) for one in entries)])
    first = today - policy.budget_days * DAY_SECONDS
    return spent_events(one for one in entries if day_of(one.time) >= first)


def spent(ledger: Ledger, delta: float) -> AccountantReport:
    """Return what everything on the ledger has cost at `delta`, by all three accountants.

    Raises:
        PrivacyError: if the accountants disagree.
        LedgerError: if the ledger cannot be read or trusted.
    """
    return account(spent_events(ledger.entries()), delta)


def rounds_left(ledger: Ledger, plan: PrivacyPlan, policy: Policy) -> int:
    """Return how many training rounds of `plan` the ceiling still covers, at most all of them.

    None of a plan that only refreshes a season.

    Raises:
        LedgerError: if the ledger cannot be read or trusted.
    """
    return _rounds_left(counted_events(ledger.entries(), policy), plan, policy)


def _rounds_left(events: Events, plan: PrivacyPlan, policy: Policy) -> int:
    return _fitting(events, plan.event("train"), plan.rounds, policy) if plan.trains else 0


def _fitting(events: Events, one: MechanismEvent, most: int, policy: Policy) -> int:
    """Return how many more of `one` the ceiling covers, at most `most`."""

    def fits(count: int) -> bool:
        together = (*events, dataclasses.replace(one, count=one.count * count))
        return budget_share(together, policy.delta, policy.max_epsilon) <= 1

    low, high = 0, most + 1  # low of them fit (or low is 0), high do not or are too many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def plan_that_fits(events: Events, plan: PrivacyPlan, policy: Policy) -> PrivacyPlan | None:
    """Return the plan with the least noise, and else the same, that the ceiling covers whole.

    Args:
        events: What is spent already.
        plan: Its q, steps and C are kept; the noise of training, histogram and season grows alike.
        policy: Its ceiling.

    Returns:
        Noise multipliers of four digits, rounded up, so that what is printed is what fits; the
        plan's own if it fits as it is. None if nothing up to the largest one allowed fits.
    """

    def with_noise(factor: float) -> PrivacyPlan:
        return dataclasses.replace(
            plan,
            noise_multiplier=_rounded_up(factor * plan.noise_multiplier),
            popularity_noise_multiplier=_rounded_up(factor * plan.popularity_noise_multiplier),
            season_noise_multiplier=_rounded_up(factor * plan.season_noise_multiplier),
        )

    def fits(some: PrivacyPlan) -> bool:
        together = (*events, *some.events())
        return budget_share(together, policy.delta, policy.max_epsilon) <= 1

    if fits(plan):
        return with_noise(1.0)
    loudest = max(
        plan.noise_multiplier, plan.popularity_noise_multiplier, plan.season_noise_multiplier
    )
    if loudest == 0:
        return None
    low, high = 1.0, MAX_NOISE / loudest / 1.001  # so that rounding up stays within bounds
    if high <= low or not fits(with_noise(high)):
        return None
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(with_noise(middle)) else (middle, high)
    return with_noise(high)


def _rounded_up(value: float) -> float:
    """Return a number of four digits that is at least `value`."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    rounded = float(f"{math.ceil(value / unit) * unit:.4g}")
    return rounded if rounded >= value else float(f"{value + unit:.4g}")


def advice(events: Events, plan: PrivacyPlan, policy: Policy) -> str:
    """Return what is left of the budget and what would still fit, for a person to act on."""
    taken = budget_share(events, policy.delta, policy.max_epsilon)
    left = (
        f"{taken:.1%} of it is spent (epsilon {epsilon_rdp(events, policy.delta):.3f} so far), "
        f"{max(1 - taken, 0):.1%} is left."
    )
    rounds = _rounds_left(events, plan, policy)
    fitting = plan_that_fits(events, plan, policy)
    if fitting is not None and not plan.trains:
        count = _fitting(events, plan.event("season"), MOST_REFRESHES, policy)
        more = f"{count} refresh(es) of this plan would still fit"
        if not count:
            more = (
                f"A refresh would fit with season_noise_multiplier "
                f"{fitting.season_noise_multiplier:g}"
            )
        return f"{left} {more}: epsilon {epsilon_pld(fitting.events(), plan.delta):.3f} each."
    if fitting is None:
        whole = "No such plan fits whole, whatever its noise: only a higher max_epsilon would do."
    else:
        epsilon = epsilon_pld(fitting.events(), plan.delta)
        sigma = fitting.season_noise_multiplier
        season = f" and season_noise_multiplier {sigma:g}" if sigma else ""
        whole = (
            f"A whole run of {plan.steps} steps at sample_rate {plan.sample_rate:g} would fit with "
            f"noise_multiplier {fitting.noise_multiplier:g} and popularity_noise_multiplier "
            f"{fitting.popularity_noise_multiplier:g}{season}: epsilon {epsilon:.3f} for that run."
        )
    return f"{left} {rounds} training round(s) of this plan would still fit. {whole}"


def _refusal(events: Events, plan: PrivacyPlan, policy: Policy, kind: EventKind) -> str:
    ceiling = f"epsilon {policy.max_epsilon:.4g} at delta {policy.delta:.3g}"
    needed = budget_share((plan.event(kind),), policy.delta, policy.max_epsilon)
    return (
        f"The budget of {ceiling} does not cover this {kind} charge, which needs {needed:.1%} of "
        f"it: {advice(events, plan, policy)}"
    )
