"""How many threads a private step takes: one.

Its products are blocks of a few thousand numbers, too small to share. On two threads each waits for
the other, and where other work holds a core, for that: rounds of one second took twenty. The bits
are the same on any number of threads (`client.training.sensitivity_check`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
