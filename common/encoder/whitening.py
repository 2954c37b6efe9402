"""Evening out a covariance: how strongly each direction of public text is scaled."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
