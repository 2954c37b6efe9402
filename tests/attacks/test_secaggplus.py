"""The attack that `test_client_attacks.py` begins with, on Flower's own protocol: it succeeds.

Not for use: it shows why fedtail has a protocol of its own. Flower's functions run as they are
installed. The server names a node among the active and among the dead, and the others give it
shares of both secrets of that node; no check is in the way.
"""

import importlib

import numpy as np
import pytest
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

pytestmark = pytest.mark.attack
# By name: the package hides the module behind a function of the same name.
protocol = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
NODES, VICTIM = (1, 2, 3, 4, 5), 3
CLIP, TARGET, MODULUS = 8.0, 1 << 20, 1 << 32


def set_up():
    """Take Flower's nodes through its first two stages, with an honest server."""
    nodes = {}
    for node in NODES:
        nodes[node] = protocol.SecAggPlusState()
        nodes[node].nid = node
    told = {
        node: protocol._setup(
            state,
            {
                Key.SAMPLE_NUMBER: len(NODES),
                Key.SHARE_NUMBER: len(NODES),
                Key.THRESHOLD: 4,
                Key.CLIPPING_RANGE: CLIP,
                Key.TARGET_RANGE: TARGET,
                Key.MOD_RANGE: MODULUS,
                Key.MAX_WEIGHT: 100.0,
            },
        )
        for node, state in nodes.items()
    }
    keys = {str(node): (one[Key.PUBLIC_KEY_1], one[Key.PUBLIC_KEY_2]) for node, one in told.items()}
    boxes = {node: [] for node in NODES}
    for node, state in nodes.items():
        dealt = protocol._share_keys(state, dict(keys))
        for other, sealed in zip(
            dealt[Key.DESTINATION_LIST], dealt[Key.CIPHERTEXT_LIST], strict=True
        ):
            boxes[other].append((node, sealed))
    return nodes, keys, boxes


def test_a_node_named_alive_and_dead_is_laid_open():
    chance = np.random.default_rng(0)
    nodes, keys, boxes = set_up()
    updates = {node: chance.normal(size=50) for node in NODES}
    masked = {
        node: protocol._collect_masked_vectors(
            state,
            {
                Key.SOURCE_LIST: [source for source, _ in boxes[node]],
                Key.CIPHERTEXT_LIST: [sealed for _, sealed in boxes[node]],
            },
            100,
            ndarrays_to_parameters([updates[node]]),
        )
        for node, state in nodes.items()
    }

    # The lie: all are active, and the victim is dead besides.
    lie = {Key.ACTIVE_NODE_ID_LIST: list(NODES), Key.DEAD_NODE_ID_LIST: [VICTIM]}
    shares = {"self": [], "key": []}
    for node in NODES:
        if node != VICTIM:
            told = protocol._unmask(nodes[node], dict(lie))
            pairs = list(zip(told[Key.NODE_ID_LIST], told[Key.SHARE_LIST], strict=True))
            shares["self"].append(next(share for of, share in pairs if of == VICTIM))
            shares["key"].append(pairs[-1][1])
    self_seed, key = combine_shares(shares["self"]), combine_shares(shares["key"])

    assert np.allclose(opened(masked[VICTIM], self_seed, key, keys), updates[VICTIM], atol=1e-4)


def opened(masked, self_seed, key, keys):
    """Return a masked update without its masks: what the server wanted."""
    left = [bytes_to_ndarray(array) for array in masked[Key.MASKED_PARAMETERS]]
    shapes = [array.shape for array in left]
    left = parameters_subtraction(left, pseudo_rand_gen(self_seed, MODULUS, shapes))
    for node in NODES:
        if node != VICTIM:
            seed = generate_shared_key(
                bytes_to_private_key(key), bytes_to_public_key(keys[str(node)][0])
            )
            mask = pseudo_rand_gen(seed, MODULUS, shapes)
            signed = mask if node < VICTIM else [-one for one in mask]
            left = parameters_subtraction(left, signed)
    factor, numbers = factor_extract(parameters_mod(left, MODULUS))
    return dequantize(numbers, CLIP, TARGET)[0] * TARGET / factor


def test_a_mask_has_32_bits_of_its_key():
    """Keys of 256 bits that fold to one number give one mask."""
    one = bytes(range(32))
    other = one[4:] + one[:4]
    assert one != other
    [first], [second] = (pseudo_rand_gen(key, MODULUS, [(9,)]) for key in (one, other))
    np.testing.assert_array_equal(first, second)
