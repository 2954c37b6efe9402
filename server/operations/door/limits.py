"""How much may come through the proxy in one request: the largest honest message of a run.

SuperLink reads a body whole, and parses it, before it asks who sent it. So what is larger than
anything a node has reason to send is refused at the proxy, before it is read.

A reply travels in pieces: first its envelope, with a hash for each piece, then each piece in a
request of its own. Flower cuts arrays into pieces of 5 MiB; the canaries that an audit reveals are
one piece, whatever their size.
"""

from typing import Final

from common.privacy.secagg.encoding import most_bytes
from common.settings.run import RunSettings

KIB: Final = 1024
FLOWERS_PIECE: Final = 5 * KIB * KIB  # FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
ENVELOPE_BYTES: Final = 256 * KIB
ASKING_BYTES: Final = 16 * KIB  # a heartbeat, a pull: numbers, a key and a hash
BESIDE_BYTES: Final = 64 * KIB  # plan, signatures and names beside a vector
MOST_WIDTH: Final = 4096  # of a product in the largest BERT that is in use, BERT-large


def largest_piece(settings: RunSettings, items: int) -> int:
    """Return how many bytes the largest honest piece of a run's replies has, at most.

    It is bounded from the settings alone, so that no language model has to be loaded: for LoRA by
    the widest BERT there is, which is generous and still far below what would hurt.

    Args:
        settings: The run's.
        items: In the public catalogue.
    """
    numbers = _trained_numbers(settings)
    steps = settings.rounds * settings.steps_per_round
    vector = 4 * (numbers + settings.audit_canaries)  # an update
    items_told = 8 * items  # one key an item; popularity takes half of that
    season = 4 * 2 * MOST_WIDTH * len(settings.season_moments)
    secure = _secure_piece(settings, numbers, items)
    revealed = 16 * settings.audit_canaries * (steps + 1)
    plain = min(max(vector, items_told, season), FLOWERS_PIECE)
    return max(plain, secure, revealed) + BESIDE_BYTES


def _secure_piece(settings: RunSettings, numbers: int, items: int) -> int:
    """Return how many bytes the largest message of a secure sum has: a vector, or keys and shares.

    They are one piece each, like what an audit reveals.
    """
    if settings.noise != "distributed":
        return 0
    season = 2 * MOST_WIDTH * len(settings.season_moments)
    longest = max(numbers + settings.audit_canaries, items, season)
    # Histogram and season are two rounds more, at most.
    return most_bytes(settings.planned_merchants, settings.rounds + 2, longest)


def no_run_yet() -> int:
    """Return what is let through before the first run: nobody has a vector to send."""
    return BESIDE_BYTES


def _trained_numbers(settings: RunSettings) -> int:
    targets = settings.lora_targets
    if targets.needs_no_bert:  # only B moves, and within `output_rank` directions
        return settings.rank * settings.output_rank
    lora = 2 * MOST_WIDTH * settings.rank * settings.last_layers * len(targets.modules)
    projection = 1024 * 1024  # of the whitening, where it is trained
    return lora + projection
