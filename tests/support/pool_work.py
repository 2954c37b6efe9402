"""What a process of the pool may do in a training's place; it imports nothing heavy."""

import itertools
import sys
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


def tell_much(path, place):
    """Tell of more than a pipe holds; say when it began and ended, in a file."""
    began = time.monotonic()
    for number in range(4000):
        caller.tell((place, number))
    path.write_text(f"{began} {time.monotonic()}")
    return AdapterState({"number": np.full((1, 1), place, np.float32)}).to_bytes()


def what_is_loaded(name, _):
    """Give how many threads torch has where a module is loaded in this process already, else 0."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None and name in sys.modules else 0
    number = np.full((1, 1), threads, np.float32)
    return AdapterState({"number": number}).to_bytes()
