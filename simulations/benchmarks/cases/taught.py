"""A private step against PEFT and Opacus as their own guides put them together.

The peer injects LoRA into the whole BERT, wraps it with Opacus and steps with its optimiser: texts
are run through all layers each time, and an example is one bought item, which bounds an item's
influence and not a shopper's. It learns the same targets of the same shoppers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import normalize

from client.training.dp_trainer import Merchant, PrivateTrainer
from client.training.examples import ExampleBatch, ShopperExamples
from common.encoder.base_model import load_base_model
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.privacy.mechanism.clipping import clip_and_sum
from common.settings.run import RunSettings
from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import Row, ratio_row
from simulations.data.marketplace import make_marketplace
from simulations.data.shop import Shop

REPEATS = 3
SHOPPERS = 40
# LoRA as taught, and how many times as fast ours is to be.
TAUGHT = (
    ("r=16 on the module that ours adapts", 16, ["encoder.layer.5.output.dense"], 40.0),
    ("r=8 on q and v of all layers", 8, ["query", "value"], 80.0),
)


def rows() -> Iterator[Row]:
    """Measure a step of some shoppers of the synthetic marketplace each way, by turns."""
    shop, settings = Shop.of(make_marketplace(seed=0).data), RunSettings()
    with TemporaryDirectory() as folder:
        basis = fit_public_basis(shop.data.catalogue, settings, Path(folder))
        encoded = encode_catalogue(shop.data.catalogue, basis, settings, Path(folder))
    examples = ShopperExamples(shop.past, settings)
    items = torch.from_numpy(encoded.vectors)
    merchant = Merchant(examples, encoded.tokens, items, torch.zeros(len(items)))
    trainer = PrivateTrainer(encoded.encoder, merchant, settings)

    def private() -> None:
        batch = examples.draw(np.arange(SHOPPERS), 0)
        candidates = trainer.candidates(trainer.negatives(np.random.default_rng(0)))
        clip_and_sum(trainer.rows(batch, candidates), settings.max_grad_norm)

    batch = examples.draw(np.arange(SHOPPERS), 0)
    texts = [item.text for item in shop.data.catalogue.items]
    for what, rank, modules, target in TAUGHT:
        step = _taught(batch, texts, rank, modules, settings)
        yield ratio_row(
            f"a private step of {SHOPPERS} shoppers",
            f"PEFT and Opacus as taught, {what}",
            by_turns([processor(private), processor(step)], REPEATS),
            target=target,
            faster=True,
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """What the peer learns: each bought item with a first target of its shopper."""

    ids: Tensor
    mask: Tensor
    target: Tensor


class _Mean(nn.Module):
    """A sentence encoder as taught: BERT's last states, their mean over tokens, length one."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        counted = mask[..., None].to(states.dtype)
        return normalize((states * counted).sum(dim=1) / counted.sum(dim=1), dim=1)


def _taught(
    batch: ExampleBatch, texts: list[str], rank: int, modules: list[str], settings: RunSettings
) -> Callable[[], None]:
    """Return one step of the peer, as a function."""
    base = load_base_model(settings.base_model)
    adapted = get_peft_model(
        base.bert, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules)
    )
    model = GradSampleModule(_Mean(adapted).train())
    first = np.searchsorted(batch.target_shopper, batch.history_shopper)
    ids, mask = base.tokenise([texts[one] for one in batch.history_item], settings.max_tokens)
    pairs = _Pairs(ids, mask, torch.from_numpy(batch.target_item[first]))
    with torch.no_grad():
        items = _Mean(base.bert)(*base.tokenise(texts[:512], settings.max_tokens))
    optimiser = DPOptimizer(
        torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1),
        noise_multiplier=1.0,
        max_grad_norm=settings.max_grad_norm,
        expected_batch_size=len(pairs.ids),
    )

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        scores = model(pairs.ids, pairs.mask) @ items.T / settings.temperature
        loss = torch.nn.functional.cross_entropy(scores, pairs.target % len(items))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()

    return step
