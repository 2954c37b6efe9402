"""How many bytes a message holds."""

from flwr.app import RecordDict


def size_in_bytes(content: RecordDict) -> int:
    """Return how many bytes a message's records hold, Flower's envelope not counted.

    Flower's own count raises on an empty text or list, which any node may send.
    """
    return sum(
        len(name) + _value_bytes(value)
        for record in content.values()
        for name, value in record.items()
    )


def _value_bytes(value: object) -> int:
    if isinstance(value, list):
        return sum(_value_bytes(one) for one in value)
    if isinstance(value, bool):
        return 1
    if isinstance(value, str | bytes):
        return len(value)
    return 8 if isinstance(value, int | float) else len(getattr(value, "data", b""))
