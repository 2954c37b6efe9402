"""Every reader of a message is guarded, also against what nobody has thought of."""

import inspect

import pytest

from common.errors import FederationError
from common.wire import canaries, contributions, heads, messages, refusal

READERS = {
    f"{module.__name__}.{name}": reader
    for module in (canaries, contributions, heads, messages, refusal)
    for name, reader in vars(module).items()
    if name.startswith(("decode_", "read_", "accepted_")) and reader.__module__ == module.__name__
}


class Unforeseen:
    """Stands for a message on which a reader, or a library below it, fails in a way of its own."""

    def _fail(self, *_):
        raise RecursionError("a row of a table")

    get = items = __getitem__ = __contains__ = __iter__ = _fail


@pytest.mark.parametrize("name", READERS)
def test_what_nobody_thought_of_is_named_and_not_quoted(name):
    reader = READERS[name]
    others = len(inspect.signature(reader).parameters) - 1
    with pytest.raises(FederationError, match="cannot be read") as caught:
        reader(Unforeseen(), *[None] * others)
    assert caught.value.field == "message"
    assert "a row" not in str(caught.value)


def test_there_are_readers():
    assert len(READERS) >= 12
