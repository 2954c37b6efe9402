"""A privacy statement by hand: numbers that fit each other, and no accountant asked."""

from dataclasses import asdict

from common.release.statement import MerchantPrivacy, Statement
from tests.support.shops import make_plan

HEX = "0123456789abcdef" * 4
PLAN = make_plan(sample_rate=0.25, steps=40, noise_multiplier=2.16, delta=1e-5)
SHARED = make_plan(
    sample_rate=0.25,
    steps=40,
    noise_multiplier=2.16,
    delta=1e-5,
    dp_model="distributed",
    merchants=8,
    spared=2,
)
SHARED_NOISE = {
    "distribution": "discrete gaussian",
    "arithmetic": "integers on the grid of the sum, modulo 2^64",
    "cut_at": 64,
}
SEVERAL = ((1, 3.99, 3.99), (2, 5.8, 9.1), (3, 7.25, 15.1), (4, 8.55, 21.9), (5, 9.7, 29.6))


def absent_fields(plan):
    return [{"absent": one, "epsilon": 3.2 + one / 10} for one in range(plan.spared + 1)]


def merchant_fields(plan=PLAN, epsilon=3.987, audit=None, **changes):
    noised = plan.dp_model != "none"
    return {
        "epsilon": epsilon if noised else None,
        "delta": plan.delta if noised else None,
        "accountants": {"pld": 3.987, "prv": 3.991, "rdp": 4.4} if noised else {},
        "ledger": {"add_or_remove": 4.41, "replace_one": 8.21} if noised else None,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.sample_rate,
        "steps": plan.steps,
        "max_grad_norm": plan.max_grad_norm,
        "audit": audit,
        **changes,
    }


def statement_fields(plan=PLAN, merchants=None, **changes):
    merchants = {"Ålesund & Co": merchant_fields(plan)} if merchants is None else merchants
    several = [dict(zip(("merchants", "local", "central"), row, strict=True)) for row in SEVERAL]
    return {
        "dp_model": plan.dp_model,
        "plan": asdict(plan),
        "run": None if plan.dp_model == "none" else {"add_or_remove": 3.987, "replace_one": 7.6},
        "sizes": "declared",
        "run_ids": ["1"],
        "noise": {"seeded": False, **(SHARED_NOISE if plan.dp_model == "distributed" else {})},
        "accountants": {"pld": "dp 1", "prv": "op 2", "rdp": "dp 1"},
        "merchants": merchants,
        "ledgers": {
            name: {"node": f"{place:02d}", "entries": 41, "hash": HEX, "signer": HEX}
            for place, name in enumerate(merchants)
        },
        "journal": {"entries": 46, "hash": HEX, "key": HEX},
        "several": [] if plan.dp_model == "none" else several,
        "audit": {"confidence": 0.95, "blocking_confidence": 0.9999},
        "code_sha256": HEX,
        "app_sha256": [HEX],
        **({"absent": absent_fields(plan)} if plan.dp_model == "distributed" else {}),
        **changes,
    }


def make_statement(plan=PLAN, merchants=None, **changes):
    return Statement.model_validate(statement_fields(plan, merchants, **changes))


def make_merchant(plan=PLAN, **changes):
    return MerchantPrivacy.model_validate(merchant_fields(plan, **changes))
