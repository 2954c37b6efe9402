"""What a stranger sends becomes a value or a FederationError, and nothing else."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from common.errors import FederationError

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def total(decode: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Turn whatever a decoder raises into a FederationError of field `message`.

    A decoder names the field itself where it can. This is for what nobody thought of: one message
    must never end a run that others have paid for. Nothing of the message is quoted.
    """

    @functools.wraps(decode)
    def guarded(*arguments: Arguments.args, **options: Arguments.kwargs) -> Value:
        try:
            return decode(*arguments, **options)
        except FederationError:
            raise
        except Exception as error:  # noqa: BLE001 - the sender chooses which it is
            raise FederationError(
                f"A message cannot be read ({type(error).__name__}).", field="message"
            ) from None

    return guarded
