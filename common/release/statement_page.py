"""The privacy statement as a page that a person can read and pass on: STATEMENT.md of a release.

The page is made of the record and of nothing else, so whoever has the record can make it again and
compare.
"""

import math
from collections.abc import Mapping
from typing import Final

from common.privacy.accounting.accountants import epsilon_pld, gaussian_mu
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.secagg.topology import topology
from common.release.statement import DpModel, MerchantPrivacy, NotProtected, Statement

TRUST: Final[Mapping[DpModel, str]] = {
    "local": (
        "Each merchant adds the noise to its own update before anything leaves its machine. "
        "The guarantee holds against the operator, the other merchants and everybody who sees "
        "the release; nobody but the merchant itself need be trusted. It does not depend on how "
        "many of them work together, nor on how many merchants answer."
    ),
    "distributed": (
        "Each merchant adds a share of the noise, and nobody sees a merchant's numbers, the "
        "operator neither: only the securely computed sum over merchants. The guarantee needs "
        "enough merchants who answer, run the code and keep their secrets from the operator: as "
        "many as the table of absent merchants says. Merchants that an operator makes up count as "
        "being with it. It holds against everybody who sees the release."
    ),
    "central": (
        "Noise was added to a sum that somebody saw without it. This exists in simulations only, "
        "as a baseline: it is no protection against whoever added up the sum."
    ),
    "none": "No noise was added. There is no privacy guarantee of any kind.",
}

SENTENCES: Final[Mapping[NotProtected, str]] = {
    "participation": "That a merchant takes part, and in which rounds.",
    "public facts": (
        "What is public by declaration: the catalogue and its texts, the base model, the plan, the "
        "merchants' names and the size bracket."
    ),
    "truths in general": (
        "What is true of shoppers in general. The model may say that people who buy tents buy "
        "lamps; it would say so without any one of them."
    ),
    "several accounts": "Several accounts of one person at one merchant: each is a unit.",
    "time and size": "How long a merchant's steps take, and how large its messages are.",
    "own recommendations": "What a merchant shows or sells to its shoppers by itself.",
    "tuning": (
        "Settings that somebody chose by looking at results on private data. What such trials "
        "revealed is in no number here."
    ),
    "whole merchants": "A merchant's shoppers as a whole: the guarantee is about one shopper.",
    "machine and code": (
        "A merchant's own machine. Whoever controls it, or replaces the code that runs on it, sees "
        "its shoppers. This statement says which code made the release, not that it ran at each "
        "merchant."
    ),
}


def statement_page(statement: Statement) -> str:
    """Return the statement as Markdown."""
    plan = statement.privacy_plan
    parts = [
        "# Privacy statement",
        (
            f"**Unit.** {_sentence(statement.unit)}. All that a shopper did at a merchant counts "
            f"as one contribution of L2 norm at most {_bound(plan)}."
        ),
        f"**Trust.** {TRUST[statement.dp_model]}",
        _cost(statement),
        *_neighbours(statement),
        *_failure(statement, plan),
        *_absent(statement, plan),
        *_several(statement),
        _mechanism(statement, plan),
        _evidence(statement),
        "## What is not protected",
        "\n".join(f"- {SENTENCES[code]}" for code in statement.not_protected),
    ]
    if statement.noise.seeded:
        parts.insert(
            1,
            "> **This run drew its noise from a fixed seed. It is a test: whoever knows the seed "
            "can take the noise away, and nothing below protects anybody.**",
        )
    return "\n\n".join(parts) + "\n"


def _bound(plan: PrivacyPlan) -> str:
    """Say how much one shopper may add, and how often."""
    if not plan.trains:
        return "1, once"
    return f"{plan.max_grad_norm:g}, in each of {plan.steps} steps"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cost(statement: Statement) -> str:
    if statement.dp_model == "none":
        return "**Cost.** Unbounded."
    rows = [
        (
            "**Cost**, over everything each merchant's ledger holds: all rounds of all runs, also "
            "those that failed. ε is by PLD where the ledger holds this run's plan alone, and by "
            "the filter below where it holds more. What was sent can change anybody's odds that a "
            "shopper was in the "
            f"data by a factor of at most e^ε, up to a failure of size δ. {_odds(statement)}"
        ),
        "",
        "| merchant | ε | δ | ε by PLD | ε by PRV | ε by RDP | audit |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [_cost_row(name, one) for name, one in statement.merchants.items()]
    counted = "; ".join(f"{name.upper()} by {by}" for name, by in statement.accountants.items())
    audit = statement.audit
    rows += [
        "",
        (
            f"Accountants: {counted}. The audit is what canaries in this run prove, with "
            f"{audit.confidence:.0%} confidence, that its steps cost at least; no claim is below "
            f"what they prove with {audit.blocking_confidence:.2%}. It finds a guarantee that is "
            "broken; it does not prove one that holds."
        ),
    ]
    return "\n".join(rows)


def _odds(statement: Statement) -> str:
    """Say what the largest claim means for somebody who had no idea before."""
    worst = max((one.epsilon or 0.0 for one in statement.merchants.values()), default=0.0)
    sure = 1 / (1 + math.exp(-worst))
    return (
        f"At ε = {worst:.2f}, the most of any merchant here, somebody who held it for even odds "
        f"can be at most {math.ceil(1000 * sure) / 10:g}% sure afterwards."
    )


def _cost_row(name: str, one: MerchantPrivacy) -> str:
    counted = (one.accountants.pld, one.accountants.prv, one.accountants.rdp)
    values = " | ".join("" if value is None else f"{value:.3f}" for value in counted)
    audit = "none" if one.audit is None else f"≥ {one.audit.epsilon:.3f}"
    claim = f"{one.epsilon:.3f} | {one.delta:.1e}" if one.epsilon is not None else " | "
    return f"| {_plain(name)} | {claim} | {values} | {audit} |"


def _neighbours(statement: Statement) -> list[str]:
    """Say what each kind of neighbours costs: this run, and all that a ledger holds."""
    if statement.run is None:
        return []
    run = statement.run
    rows = [
        (
            "**Neighbours.** ε counts a shopper added or removed. That a shopper's data was this "
            "and not that, a shopper replaced by another, costs more. This run's plan was fixed "
            "before its first step, so PLD holds for it. Over a ledger's life a later run may be "
            "chosen after seeing an earlier one; there a Rényi filter holds, with a ceiling that "
            "was fixed beforehand. Told is the least one that lets all of the ledger pass; the "
            "merchant's own policy has at least that."
        ),
        "",
        "| ε of | added or removed | replaced | by |",
        "|---|---|---|---|",
        f"| this run alone | {run.add_or_remove:.3f} | {run.replace_one:.3f} | PLD |",
    ]
    rows += [
        f"| all on the ledger of {_plain(name)} | {one.ledger.add_or_remove:.3f} | "
        f"{one.ledger.replace_one:.3f} | the filter |"
        for name, one in statement.merchants.items()
        if one.ledger is not None
    ]
    return ["\n".join(rows)]


def _failure(statement: Statement, plan: PrivacyPlan) -> list[str]:
    """Hold delta against the declared size, and say where both come from."""
    if statement.dp_model == "none":
        return []
    text = (
        f"**δ** is {plan.delta:.1e}, beside a declared size of {plan.size_bracket:,} shoppers a "
        f"merchant: {plan.delta * plan.size_bracket:.2g} of one over that."
    )
    if plan.delta_warning:
        text += f" **Warning: {plan.delta_warning}**"
    if statement.sizes == "counted":
        text += (
            " Nobody declared them: the simulation took size or δ from counts of shoppers, which "
            "ε does not cover."
        )
    return [text]


def _absent(statement: Statement, plan: PrivacyPlan) -> list[str]:
    """Say what the run costs by how many merchants' shares of the noise do not count."""
    if not statement.absent:
        return []
    hidden = topology(plan.merchants).colluders
    rows = [
        (
            f"**Absent merchants.** {plan.merchants} merchants share the noise. A share does not "
            "count if its merchant is missing from a sum, or tells the operator what it drew. ε "
            f"above is for {plan.spared} of them, missing and telling together; by their number, "
            "for this run alone:"
        ),
        "",
        "| absent | ε of this run |",
        "|---|---|",
        *(f"| {one.absent} | {one.epsilon:.3f} |" for one in statement.absent),
        "",
        (
            f"No sum of fewer than {plan.least_merchants} merchants is opened by an honest node. "
            f"Masks hide each merchant's own numbers while at most {hidden} merchants are with the "
            "operator; beyond that a merchant has its own share of the noise and no more."
        ),
    ]
    return ["\n".join(rows)]


def _several(statement: Statement) -> list[str]:
    """Say what a shopper of several merchants is charged in this run."""
    if not statement.several:
        return []
    heads = {"local": "noise at each merchant", "central": "noise once, on the sum"}
    used = "local" if statement.dp_model == "local" else "central"
    names = [f"**{head}**" if name == used else head for name, head in heads.items()]
    rows = [
        (
            "**A shopper of several merchants** is a unit at each, and what is known of all of "
            "them adds up. ε of this run's plan by where the noise is, at the same σ; the way of "
            "this run in bold:"
        ),
        "",
        f"| merchants | {names[0]} | {names[1]} |",
        "|---|---|---|",
    ]
    rows += [
        f"| {one.merchants} | {one.local:.2f} | {one.central:.2f} |" for one in statement.several
    ]
    return ["\n".join(rows)]


def _mechanism(statement: Statement, plan: PrivacyPlan) -> str:
    if statement.dp_model == "none":
        return "**Mechanism.** Sums without noise."
    return (_training(plan) if plan.trains else _refresh(plan)) + _season_and_bits(statement, plan)


def _refresh(plan: PrivacyPlan) -> str:
    """Say what a run without rounds is, and whose adapter its release has."""
    return (
        "**Mechanism.** A refresh: nothing was trained. The adapter is that of the release which "
        "the manifest names as parent; what it cost, and whose shoppers, stands in that release's "
        "own statement. Who took part in both has paid for both, above. Gaussian noise was added "
        f"to one sum{_shares(plan)}."
    )


def _training(plan: PrivacyPlan) -> str:
    text = (
        f"**Mechanism.** Poisson sampling with q = {plan.sample_rate:g}: each shopper takes part "
        "in a step by a coin flip of its own. Gaussian noise of standard deviation "
        f"{plan.noise_multiplier:.4g} x {plan.max_grad_norm:g} on the sum of clipped gradients"
        f"{_shares(plan)}; "
        f"{plan.steps} steps; the sum is divided by {plan.divisor:g}, which is declared and not "
        "counted."
    )
    if plan.takes_histogram:
        text += (
            " Before them one histogram of item popularity, a shopper's row of L2 norm at most 1, "
            f"with noise of standard deviation {plan.popularity_noise_multiplier:.4g}."
        )
    return text


def _season_and_bits(statement: Statement, plan: PrivacyPlan) -> str:
    noise = statement.noise
    return _season(statement, plan) + (
        f" Random bits: {noise.generator}. Numbers: {noise.arithmetic}, which the clipped sum "
        f"shares; the part of a Gaussian beyond {noise.cut_at} standard deviations is not drawn."
    )


def _shares(plan: PrivacyPlan) -> str:
    """Say whose sum the noise is on, where merchants share it."""
    if plan.dp_model != "distributed":
        return ""
    kind: EventKind = "train" if plan.trains else "season"
    return (
        f" over merchants, of which {plan.least_merchants} carry it: each adds discrete Gaussian "
        f"noise of standard deviation {plan.noise_std(kind):.4g}"
    )


def _season(statement: Statement, plan: PrivacyPlan) -> str:
    """Say what the season is, and what it takes of the run's cost."""
    if not plan.takes_season or statement.run is None:
        return ""
    alone = epsilon_pld((plan.event("season"),), plan.delta)
    share = season_share(plan, statement.run.add_or_remove)
    cost = (
        f"It takes {share:.0%} of this run's cost (in mu squared of Gaussian differential "
        f"privacy), and alone would cost ε = {alone:.3f}."
        if plan.trains
        else f"It is all of this run's cost, ε = {alone:.3f}."
    )
    return (
        f" Once{', before the rounds' if plan.trains else ''}, one season vector: what each "
        "shopper bought of late against "
        "what it bought before, in the space of item texts, a shopper's row of L2 norm at most 1, "
        f"with noise of standard deviation {plan.season_noise_multiplier:.4g}. {cost} The vectors "
        "of all merchants, added up, are `season.safetensors`."
    )


def season_share(plan: PrivacyPlan, epsilon: float) -> float:
    """Return which share of a run's `epsilon` its season takes, in mu squared."""
    return (1 / (plan.season_noise_multiplier * gaussian_mu(epsilon, plan.delta))) ** 2


def _evidence(statement: Statement) -> str:
    """Name the files by which this can be checked."""
    rows = [
        (
            "**Evidence.** `fedtail audit run` computes all of the above again from the ledgers, "
            "the journal and the revealed canaries. They end in these hashes, or go on from them:"
        ),
        "",
        "| what | entries | last hash | signed by |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| ledger of {_plain(name)} ({_plain(one.node)}) | {one.entries} | `{one.hash}` | "
        f"`{one.signer}` |"
        for name, one in statement.ledgers.items()
    ]
    if statement.journal is not None:
        one = statement.journal
        rows.append(f"| the server's journal | {one.entries} | `{one.hash}` | `{one.key}` |")
    rows += ["", f"Code, over its source files: `{statement.code_sha256}`."]
    rows += [f"App bundle that ran: `{one}`." for one in statement.app_sha256]
    return "\n".join(rows)


def _plain(name: str) -> str:
    """Return a merchant's name so that it can break neither the table nor the page."""
    kept = "".join(letter if letter.isprintable() else " " for letter in name)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in kept)
