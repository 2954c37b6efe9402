"""Evening out a covariance: how strongly each direction of public text is scaled."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DEAD_SCALE = 1e-3  # of LayerNorm's largest scale: MiniLM has three coordinates below 1e-8 of it


def least_variance(covariance: Tensor) -> float:
    """Return the least variance that a direction is counted with.

    A catalogue smaller than d leaves directions without variance; one item leaves none with any.
    """
    mean = float(covariance.diagonal().mean())
    return 1e-3 * mean if mean > 1e-12 else 1.0


def inverse_root(covariance: Tensor, power: float) -> NDArray[np.float32]:
    """Return covariance ** (-power / 2) [d, d], directions below `least_variance` counted as it."""
    values, vectors = torch.linalg.eigh(covariance)
    scale = values.clamp_min(least_variance(covariance)) ** (-power / 2)
    root: Tensor = (vectors * scale) @ vectors.T
    return root.float().numpy()


@lru_cache(maxsize=4)
def noise_basis(scale: bytes, projection: bytes, output_rank: int) -> Tensor:
    """Return S of `AdaptedEncoder.noise_basis` from float64 numbers, computed once for all nodes.

    It is of public facts alone, and nobody writes into it.
    """
    scales = torch.frombuffer(bytearray(scale), dtype=torch.float64)
    whitening = torch.frombuffer(bytearray(projection), dtype=torch.float64)
    # The whitening is symmetric; it multiplies least where text varies most.
    values, vectors = torch.linalg.eigh(whitening.reshape(len(scales), -1))
    # A coordinate that LayerNorm has switched off reaches nothing: B leaves it alone.
    alive = scales.abs() > DEAD_SCALE * scales.abs().max()
    inverse = torch.where(alive, 1 / scales, 0.0)[:, None] * vectors / values
    frame: Tensor = inverse / inverse.square().mean().mul(len(inverse)).sqrt()
    return frame[:, :output_rank].float()
