"""Which weights LoRA adapts, how many ranks each gets, and under which names they travel."""

import re
from dataclasses import dataclass
from typing import Literal

from common.errors import SettingsError

LoraVariant = Literal["ffa-lora", "lora"]

PROJECTION = "projection"
PROJECTION_FILE = "projection.safetensors"  # of a release: PEFT's BERT has no projection
LORA_A = "lora_A."  # before a module's name in the basis: its A
MODULES = {
    "output.dense": "output.dense",
    "intermediate.dense": "intermediate.dense",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention.output.dense": "attention.output.dense",
}


@dataclass(frozen=True)
class LoraTargets:
    """Where the adapter sits.

    Attributes:
        modules: Names from `MODULES`, and `projection` for the whitening projection.
        last_layers: How many of the last BERT layers are adapted, at least 1.
        rank: r, ranks of each adapted weight.
        variant: `ffa-lora`: A is frozen on a public basis and B is trained, so that the mean of
            adapters is the adapter of the mean (FFA-LoRA, Sun et al. 2024). `lora`: A and B are
            trained and averaged each on its own; the mean of products is not the product of
            means, so the aggregate is inexact.
        output_rank: Of the last layer's `output.dense`, B moves only within this many
            directions, those along which public text varies most once whitened (see
            `AdaptedEncoder.noise_basis`). The model's width or more is all of them.

    Raises:
        SettingsError: if a module is unknown, none is named, or a number is out of bounds.
    """

    modules: tuple[str, ...]
    last_layers: int
    rank: int
    variant: LoraVariant
    output_rank: int

    def __post_init__(self) -> None:
        known = (*MODULES, PROJECTION)
        for module in self.modules:
            if module not in known:
                raise SettingsError(
                    f"lora_modules names {module!r}; known are {', '.join(known)}.",
                    field="lora_modules",
                )
        if not self.modules or len(set(self.modules)) != len(self.modules):
            raise SettingsError(
                "lora_modules must name at least one module, each once.", field="lora_modules"
            )
        if not 1 <= self.rank <= 768:
            raise SettingsError(f"rank is {self.rank}; it must be 1 to 768.", field="rank")
        if self.last_layers < 1:
            raise SettingsError("last_layers must be at least 1.", field="last_layers")
        if self.output_rank < 1:
            raise SettingsError("output_rank must be at least 1.", field="output_rank")
        if self.variant not in {"ffa-lora", "lora"}:
            raise SettingsError("lora must be ffa-lora or lora.", field="lora")

    @property
    def bert_modules(self) -> tuple[str, ...]:
        """The adapted modules inside BERT's layers."""
        return tuple(module for module in self.modules if module != PROJECTION)

    @property
    def aggregates_exactly(self) -> bool:
        """Whether averaging adapters equals averaging the weights they stand for."""
        return self.variant == "ffa-lora"

    @property
    def output_only(self) -> bool:
        """Whether all before the last layer's second product is frozen, and can be cached."""
        return (
            self.variant == "ffa-lora" and self.bert_modules == ("output.dense",)
        ) and self.last_layers == 1

    @property
    def needs_no_bert(self) -> bool:
        """Whether a step on a cached catalogue is B, LayerNorm and a frozen projection alone."""
        return self.output_only and PROJECTION not in self.modules

    def first_layer(self, depth: int) -> int:
        """Return the lowest layer that is adapted, of a model `depth` layers deep.

        It is `depth`, one above the last, where only the projection is.

        Raises:
            SettingsError: if `last_layers` is more than the model has.
        """
        if self.last_layers > depth:
            raise SettingsError(
                f"last_layers is {self.last_layers}; the base model has {depth}.",
                field="last_layers",
            )
        return depth - self.last_layers if self.bert_modules else depth

    def module_names(self, depth: int) -> list[str]:
        """Return the adapted modules by their full names in the adapted encoder, sorted."""
        first = self.first_layer(depth)
        names = [
            f"bert.encoder.layer.{layer}.{MODULES[module]}"
            for layer in range(first, depth)
            for module in self.bert_modules
        ]
        return sorted([*names, PROJECTION] if PROJECTION in self.modules else names)


def state_name(parameter: str) -> str:
    """Return the name under which an adapted encoder's parameter travels and is stored: PEFT's own.

    `bert.encoder.layer.5.output.dense.lora_B.default.weight` becomes
    `base_model.model.encoder.layer.5.output.dense.lora_B.weight`.
    """
    name = re.sub(r"\.lora_([AB])\.default\.", r".lora_\1.", parameter)
    return f"base_model.model.{name.removeprefix('bert.')}" if name.startswith("bert.") else name
