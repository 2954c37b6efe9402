"""Small shops and a tiny BERT for tests: random, seeded, and made in milliseconds."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizer
from transformers.utils import logging as transformers_logging
from typer.testing import CliRunner

from client.shop.dataset import MerchantData, save_merchant_data
from client.shop.interactions import Interactions
from client.shop.splitting import SplitRule
from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ShopperExamples
from common.catalogue import Catalogue, Item
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.public_basis import fit_basis
from common.encoder.token_states import encode_token_states
from common.privacy.accounting.plan import PrivacyPlan
from common.settings.lora_targets import LoraTargets
from common.settings.run import RunSettings

DAY = 86_400_000_000
_WORDS = """red blue green amber ivory jug mug bowl plate lamp clock frame oak pine brass linen wool
retro rustic floral striped plain small large set of two four with lid handle gift box"""
WORDS = _WORDS.split()
CHINESE = list("红蓝绿色陶瓷茶杯大小木盘")


def write_tiny_bert(folder, *, seed=0, layers=3, hidden=32, words=WORDS, positions=64):
    """Write a random BERT with a WordPiece vocabulary of `words` into `folder`."""
    transformers_logging.disable_progress_bar()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: place for place, word in enumerate([*specials, *words, "##s"])}
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        initializer_range=0.2,  # wide, so that items differ and gradients are not tiny
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


def make_lora_targets(
    modules=("output.dense",), *, last_layers=1, rank=4, variant="ffa-lora", output_rank=8192
):
    """LoRA targets: by default all output directions of the last layer's second product."""
    return LoraTargets(modules, last_layers, rank, variant, output_rank)


def make_catalogue(items, seed=0):
    """A catalogue of random titles of 1 to 14 words, all different."""
    random = np.random.default_rng((9, seed))
    titles: dict[str, None] = {}
    while len(titles) < items:
        titles[" ".join(random.choice(WORDS, random.integers(1, 15)))] = None
    return Catalogue(
        tuple(Item(f"item-{place}", title, title) for place, title in enumerate(titles))
    )


def make_interactions(items, shoppers, seed=0, *, baskets=(1, 8), basket_size=(1, 9), days=365):
    """Random purchases: repeats over baskets, popular items bought more, some shoppers tiny."""
    random = np.random.default_rng((7, seed))
    odds = 1.0 / (3 + np.arange(items))
    rows = []
    for shopper in range(shoppers):
        times = np.sort(random.choice(days, random.integers(*baskets), replace=False)) * DAY
        for number, time in enumerate(times):
            size = min(int(random.integers(*basket_size)), items)
            bought = np.sort(random.choice(items, size, replace=False, p=odds / odds.sum()))
            rows += [(shopper, item, time, number) for item in bought]
    return interactions_of(rows, items, shoppers)


def interactions_of(rows, items, shoppers, values=None):
    """Interactions from (shopper, item, time, basket) tuples, in the order their class asks for."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    order = np.lexsort((table[:, 1], table[:, 2], table[:, 0]))
    table = table[order]
    value = np.ones(len(table)) if values is None else np.array(values)[order]
    return Interactions(
        shopper_ids=tuple(f"shopper-{place}" for place in range(shoppers)),
        item_count=items,
        shopper=table[:, 0].astype(np.int32),
        item=table[:, 1].astype(np.int32),
        time=table[:, 2],
        basket=table[:, 3].astype(np.int32),
        value=value.astype(np.float32),
        timed=True,
    )


def make_shop(name="Ash", *, items=60, shoppers=40, seed=0, days=365):
    """A merchant whose last 60 days are test and the 60 before them validation."""
    return MerchantData(
        name,
        make_catalogue(items, seed),
        make_interactions(items, shoppers, seed, days=days),
        SplitRule("time", valid_from=(days - 120) * DAY, test_from=(days - 60) * DAY),
        catalogue_declared=True,
    )


def bought_by(data, name):
    """Return the ids of the items that one shopper has in a shop's data."""
    place = data.interactions.shopper_ids.index(name)
    items = data.interactions.item[data.interactions.shopper == place]
    return {data.catalogue.items[item].item_id for item in items.tolist()}


def make_settings(**changes):
    """Settings for a tiny model; `base_model` must be given where one is loaded."""
    values = {
        "rounds": 3,
        "rank": 3,
        "negatives": 40,
        "max_tokens": 24,
        "seeded_noise": True,
        "size_bracket": 40,
        "max_history": 40,
        "max_targets": 12,
    }
    return RunSettings.from_flat(values | changes)


def make_plan(**changes):
    """A plan for tests; its noise is not what is tested."""
    plan = PrivacyPlan(
        sample_rate=0.5,
        steps=6,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        size_bracket=40,
        delta=1e-3,
        dp_model="local",
        popularity_noise_multiplier=2.0,
    )
    return replace(plan, **changes)


@dataclass(eq=False)
class Workshop:
    """A adapted encoder and a trainer on one shop's purchases, and all that they were made of."""

    model: object
    catalogue: Catalogue
    basis: object
    encoder: AdaptedEncoder
    tokens: ItemTokens
    examples: ShopperExamples
    trainer: PrivateTrainer
    merchant: Merchant
    settings: RunSettings


def make_workshop(model, catalogue, interactions, settings, *, adapter_seed=1):
    """Fit a basis, build an encoder with a random adapter, and a trainer on `interactions`."""
    targets = settings.lora_targets
    token_states = encode_token_states(
        model,
        catalogue,
        layer=targets.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=None,
    )
    fit = ("whitening_power", "sif_smoothing", "lexical_weight")
    basis = fit_basis(
        model, token_states, targets, **{name: getattr(settings, name) for name in fit}
    )
    encoder = AdaptedEncoder(model, basis, targets)
    tokens = ItemTokens.from_token_states(encoder, token_states, model.token_embeddings)
    vectors = tokens.vectors(encoder)
    if adapter_seed is not None:
        encoder.load_adapter(random_adapter(encoder, adapter_seed))
    examples = ShopperExamples(interactions, settings)
    popularity = np.random.default_rng(5).normal(size=len(catalogue)).astype(np.float32)
    there = (torch.from_numpy(one).to(encoder.device) for one in (vectors, popularity))
    merchant = Merchant(examples, tokens, *there)
    trainer = PrivateTrainer(encoder, merchant, settings)
    return Workshop(model, catalogue, basis, encoder, tokens, examples, trainer, merchant, settings)


def random_adapter(encoder, seed=1, size=0.05):
    """An adapter of the adapted encoder's shapes with random numbers in it."""
    zero = encoder.adapter()
    numbers = np.random.default_rng(seed).normal(0, size, zero.size)
    return zero.with_vector(zero.flatten() + numbers.astype(np.float32))


def small_options(out, tiny_bert, **changes):
    """`fedtail simulate`'s arguments for a small hand-made shop that lies beside `out`."""
    data = out.parent / "shop"
    if not data.exists():
        save_merchant_data(make_shop("Corner shop", items=50, shoppers=60), data)
    # Without a season, as many tests name entries by number; tests/common/audit/test_season.py has
    # one.
    settings = {"base_model": tiny_bert, "rank": 3, "negatives": 40, "max_tokens": 24}
    settings |= {"season_share": 0}
    given = {"data": data, "out": out, "merchants": 2, "rounds": 3, "seed": 1, **changes}
    arguments = ["simulate", "--seeded-noise", "--fast", "--public-data"]  # it is made up
    for name, value in given.items():
        arguments += [f"--{name}", str(value)]
    for name, value in settings.items():
        arguments += ["--set", f"{name}={value}"]
    return arguments


def command(arguments, cache, *, page=False, **options):
    """Run `fedtail` in this process; return what Typer's runner saw.

    Half of a small simulation's time is its page's pictures: they are drawn where a test asks.
    Nor does it wait for the disk: no test of a command cuts the power.
    """
    import fedtail

    environment = {"FEDTAIL_CACHE": str(cache), "COLUMNS": "200"}
    drawn = nullcontext() if page else patch("simulations.pipeline.simulate.write_report")
    with drawn, patch("os.fsync"):
        return CliRunner().invoke(fedtail.app, arguments, env=environment, **options)


def simulate_small(out, tiny_bert, *, page=False, **changes):
    """Run a small simulation to its end and return its folder."""
    done = command(small_options(out, tiny_bert, **changes), out.parent / "cache", page=page)
    if done.exception is not None:
        raise done.exception
    return out
