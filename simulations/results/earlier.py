"""Names that earlier schemas used, so that their results are still read."""

from typing import Any

# A rename is one of words, not of meaning: each value stays what it was.
RENAMED = {
    "declared_shoppers": "size_bracket",
    "half_weight_share": "sif_smoothing",
    "word_weight": "lexical_weight",
    "output_directions": "output_rank",
    "adaptivity": "tau",
    "audit_lanes": "audit_canaries",
    "lanes": "canaries",
    "placement": "dp_model",
    "gated_frozen": "fused_frozen",
    "gated_frozen_dialled": "fused_frozen_boosted",
    "fused_dialled": "fused_boosted",
}
RENAMED_PARTS = {"shop": "collaborative", "unsold": "cold_start"}  # of an example's score
RENAMED_VALUES = {"lora": {"ffa": "ffa-lora", "plain": "lora"}}  # by the name they stand under
_NAMES_A_MODEL = ("model", "baseline")
_RENAMED_WITHIN: dict[str, dict[str, str]] = {
    "merchants": {},  # a shop may have any name
    "parts": RENAMED_PARTS,
}


def renamed(value: Any, name: str = "") -> Any:
    """Return JSON fields under today's names; what has them already stays as it is."""
    if isinstance(value, dict):
        names = _RENAMED_WITHIN.get(name, RENAMED)
        return {names.get(key, key): renamed(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, name) for inner in value]
    if isinstance(value, str) and name in _NAMES_A_MODEL:
        return RENAMED.get(value, value)
    if isinstance(value, str):
        return RENAMED_VALUES.get(name, {}).get(value, value)
    return value
