"""Planting a bug: one piece of a function's source is replaced, as an edit would."""

import inspect
import sys
import textwrap


def plant(monkeypatch, owner, name, *edits):
    """Put `owner.name` with each (old, new) of `edits` done to its source in its place.

    Raises:
        AssertionError: if an old piece is not there once: the code has moved on, and the bug that
            is meant would not be planted.
    """
    held = inspect.getattr_static(owner, name)
    function = inspect.unwrap(held.__func__ if isinstance(held, classmethod) else held)
    function = function.fget if isinstance(function, property) else function
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        assert source.count(old) == 1, f"{name} has {source.count(old)} times: {old}"
        source = source.replace(old, new)
    space = sys.modules[function.__module__].__dict__
    made = {}
    exec(compile(source, f"<{name} with a bug>", "exec"), space, made)  # noqa: S102 - our own source, edited
    monkeypatch.setattr(owner, name, made[function.__name__])
