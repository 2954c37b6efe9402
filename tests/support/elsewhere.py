"""A device that is not there: it computes on the processor and is as strict as a card.

Its tensors say that they are on torch's `meta` device, and hold real ones. As on a card, an
operation that has tensors of both places raises, and numpy cannot read one. As on Apple's, there
is no float64. So a program that runs on it carries every tensor where it belongs, and what it
computes can be compared with the processor's.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ELSEWHERE = torch.device("meta")
_MOVES = {"aten::copy_", "aten::_to_copy", "aten::to"}


class _There(torch.Tensor):
    """A tensor elsewhere; `held` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        with torch.inference_mode(mode=False):  # torch cannot make a view of one made in it
            return torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=ELSEWHERE,
            )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operation, _, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operation, _, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


@contextmanager
def elsewhere():
    """Have tensors made or put elsewhere while open."""
    with _Mode():
        yield ELSEWHERE


def _run(operation, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    there = [one for one in leaves if isinstance(one, _There)]
    asked = [one for one in leaves if isinstance(one, torch.device)]
    if not there and not any(map(_is_elsewhere, asked)):
        return operation(*args, **kwargs)
    name = operation._schema.name
    here = [one for one in leaves if isinstance(one, torch.Tensor) and not isinstance(one, _There)]
    if name not in _MOVES and there and any(one.dim() for one in here):  # a number may be anywhere
        raise RuntimeError(f"{name}: not all tensors are in one place")
    stays = any(map(_is_elsewhere, asked)) if asked else bool(there)
    if name == "aten::copy_":
        stays = isinstance(args[0], _There)
    args, kwargs = tree_map_only(_There, lambda one: one.held, (args, kwargs))
    args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
    found = operation(*args, **kwargs)
    if not stays:  # a copy, as memory is never shared between places
        return tree_map_only(torch.Tensor, torch.clone, found)
    known = {id(one.held): one for one in there}  # what an operation changed in place

    def put(one):
        if one.dtype == torch.float64:
            raise TypeError(f"{name}: there is no float64 here")
        return known[id(one)] if id(one) in known else _There(one)

    return tree_map_only(torch.Tensor, put, found)


def _is_elsewhere(device):
    return device.type == ELSEWHERE.type
