"""The adapter as numbers: what is trained, sent, averaged, signed and loaded again.

Names are PEFT's own (`base_model.model.encoder.layer.5.output.dense.lora_B.weight`), so a state
written with `to_bytes` is a file that PEFT loads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from common.arrays import load_arrays
from common.errors import InputError
from common.files import sha256_hex


@dataclass(frozen=True, eq=False)
class AdapterState:
    """Trained tensors by name, float32, in sorted order of names.

    Raises:
        InputError: if a tensor is not float32 or holds a number that is not finite.
    """

    tensors: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            if tensor.dtype != np.float32:
                raise InputError(f"Tensor {name} is {tensor.dtype}, not float32.", field=name)
            if not np.isfinite(tensor).all():
                raise InputError(f"Tensor {name} holds a number that is not finite.", field=name)
        ordered = {name: np.ascontiguousarray(self.tensors[name]) for name in sorted(self.tensors)}
        object.__setattr__(self, "tensors", ordered)

    @property
    def size(self) -> int:
        """How many numbers are trained (d)."""
        return sum(tensor.size for tensor in self.tensors.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the safetensors bytes: equal exactly when every bit is equal."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the state as a safetensors file."""
        return save(dict(self.tensors))

    @classmethod
    def from_bytes(cls, content: bytes) -> "AdapterState":
        """Read a safetensors file.

        Raises:
            InputError: if `content` is not one, or a tensor is not float32 and finite.
        """
        try:
            return cls(load_arrays(content))
        except SafetensorError as error:
            raise InputError(f"Not a safetensors file: {error}.", field="adapter") from error

    def flatten(self) -> NDArray[np.float32]:
        """Return all numbers as one vector [d], tensor after tensor in order of names."""
        return np.concatenate([tensor.ravel() for tensor in self.tensors.values()])

    def with_vector(self, vector: NDArray[np.floating]) -> "AdapterState":
        """Return a state of the same names and shapes that holds `vector` [d]."""
        if vector.shape != (self.size,):
            raise InputError(
                f"The vector has shape {vector.shape}; this adapter needs ({self.size},).",
                field="vector",
            )
        tensors: dict[str, NDArray[np.float32]] = {}
        start = 0
        for name, tensor in self.tensors.items():
            piece = vector[start : start + tensor.size]
            tensors[name] = piece.reshape(tensor.shape).astype(np.float32)
            start += tensor.size
        return AdapterState(tensors)


@dataclass(frozen=True, eq=False)
class AdapterUpdate:
    """One merchant's protected contribution to a round: noise is already in it.

    Attributes:
        vector: float32 [d], the noised clipped sum over the plan's public divisor: a gradient,
            to be averaged and stepped on by the server.
        round_number: Counted from 1.
        plan_digest: The plan under which it was made.
    """

    vector: NDArray[np.float32]
    round_number: int
    plan_digest: str
