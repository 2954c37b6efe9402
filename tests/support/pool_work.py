"""What a process of the pool may do in a training's place; it imports nothing heavy."""

import itertools
import time

import numpy as np

from common.adapter import AdapterState
from simulations.federation.pool_worker import Stopped, caller


def make_number(number, place):
    """Tell of the number, and give the bytes of an adapter that holds it."""
    time.sleep(number / 10)
    caller.tell((place, number))
    return AdapterState({"number": np.full((1, 1), number, np.float32)}).to_bytes()


def tell_for_ever(path, place):
    """Tell of one round after the other; once the caller wants no more, write that to `path`."""
    for number in itertools.count():
        time.sleep(0.01)
        try:
            caller.tell((place, number))
        except Stopped as error:
            path.write_text(type(error).__name__)
            raise
