"""A federation's folder on one machine: each merchant's past, its policy, the public catalogue."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger, spent
from client.privacy.policy import POLICY_FILE
from client.shop.dataset import save_merchant_data
from common.catalogue import Catalogue, merge_catalogues, write_catalogue
from common.files import write_atomic
from common.privacy.accounting.accountants import AccountantReport, Events, ceiling_for
from common.privacy.accounting.plan import PrivacyPlan
from server.run.files import CATALOGUE_FILE
from simulations.data.shop import Shop

REPEATED_ROUNDS = 3  # a round cut short is charged again when the run goes on


def write_federation(shops: Sequence[Shop], folder: Path, plan: PrivacyPlan) -> Catalogue:
    """Write each merchant's folder and the public catalogue; return the catalogue.

    A folder holds the merchant's past only: what the evaluation asks for later is out of a node's
    reach. The policy allows this plan once, and a few rounds that a stop makes it repeat.
    """
    for place, shop in enumerate(shops):
        data = shop.data
        past = replace(data, interactions=shop.node_data, event_merchant=None, merchant_names=())
        save_merchant_data(past, folder / folder_name(place, shop.name))
        write_atomic(folder / folder_name(place, shop.name) / POLICY_FILE, policy_text(plan))
    catalogue = merge_catalogues([shop.data.catalogue for shop in shops])
    write_catalogue(catalogue, folder / CATALOGUE_FILE)
    return catalogue


def folder_name(place: int, name: str) -> str:
    """Return a merchant's folder name: its number, so that order and uniqueness are sure."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name.lower())[:24].strip("-")
    return f"{place:02d}-{plain}" if plain else f"{place:02d}"


def policy_text(plan: PrivacyPlan, spent: Events = ()) -> bytes:
    """Return the policy file of a simulated merchant whose ledger holds `spent` already."""
    repeated = [plan.event("season")] if plan.takes_season else []
    if plan.trains:
        repeated += [replace(plan.event("train"), count=REPEATED_ROUNDS * plan.steps_per_round)]
    # Infinite without noise: valid TOML
    ceiling = ceiling_for((*spent, *plan.events(), *repeated), plan.delta)
    lines = [
        f"max_epsilon = {ceiling!r}",
        f"max_run_epsilon = {ceiling!r}",
        f"delta = {plan.delta!r}",
        "min_noise_multiplier = 0.0",
        "min_spared_share = 0.0",
        f'dp_models = ["{plan.dp_model}"]',
        "allow_seeded_noise = true",
        "",
    ]
    return "\n".join(lines).encode()


def spent_by_merchant(
    shops: Sequence[Shop], folder: Path, delta: float
) -> dict[str, AccountantReport]:
    """Return what each merchant's ledger says its shoppers were charged."""
    reports = {}
    for shop, place in zip(shops, merchant_folders(folder), strict=True):
        ledger = open_ledger(place / "node" / LEDGER_FILE, place.name)
        reports[shop.name] = spent(ledger, delta)
    return reports
