"""A ledger of a shop named shop, opened, and a round paid for."""

from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=10,
    noise_multiplier=2.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-5,
    dp_model="local",
    popularity_noise_multiplier=3.0,
)


def reopen(path):
    return Ledger.open(path, "shop", "data")


def pay(ledger, round_number=1, kind="train", **options):
    options.setdefault("admit", lambda entries: None)
    return ledger.append(PLAN, run_id="run", round_number=round_number, kind=kind, **options)
