"""Merchants that attack: what an enrolled node may send, by the means of the real protocol."""

import io
import json

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from client.app import app
from client.node.session import close_nodes
from common.wire import messages as wire
from common.wire.canaries import AUDIT
from server.run.polling_grid import PromptGrid
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from simulations.federation.timed_grid import SimulatedClock, TimedGrid

ATTACKER = 1  # the place of `birch`


def npy(values):
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def with_header(text):
    """An .npy buffer of twelve numbers whose header says something else."""
    header = text.encode() + b"\n"
    body = np.zeros(12, np.float32).tobytes()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


# Buffers that numpy's own reader answers with SyntaxError, MemoryError, OverflowError, EOFError ...
BUFFERS = {
    "no bytes": b"",
    "magic alone": b"\x93NUMPY",
    "no header": b"\x93NUMPY\x01\x00",
    "a header cut short": b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "no dictionary": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (12,)"),
    "null bytes": with_header("{'descr': '\x00'}"),
    "deep brackets": with_header("(" * 900 + ")" * 900),
    "a number of 4000 digits": with_header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 3900 + ",), }"
    ),
    "a negative shape": with_header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -3), }"
    ),
    "an absurd shape": with_header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 999999999999), }"
    ),
    "an empty shape of many": with_header(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 999999999999), }"
    ),
    "objects": with_header("{'descr': '|O', 'fortran_order': False, 'shape': (12,), }"),
    "no dtype": with_header("{'descr': [('', ''), 3], 'fortran_order': False, 'shape': (12,), }"),
    "a class": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }"),
    "numbers of another kind": npy(np.zeros(12)),
    "by columns": npy(np.asfortranarray(np.zeros((3, 4), np.float32))),
    "one too many": npy(np.zeros(13, np.float32)),
    "no number": npy(np.full(12, np.nan, np.float32)),
}


def with_buffers(content, buffer):
    """The message with every array's bytes exchanged."""
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = {key: Array("float32", (12,), "numpy.ndarray", buffer) for key in record}
            content[name] = ArrayRecord(arrays)
    return content


def nested(depth):
    return "[" * depth + "]" * depth


# What else may stand where a record is expected.
MESSAGES = {
    "nothing": lambda content: RecordDict(),
    "an empty text": lambda content: {**content, "more": ConfigRecord({"text": ""})},
    "an empty list": lambda content: {**content, "more": ConfigRecord({"list": []})},
    "records of other kinds": lambda content: {name: MetricRecord({"a": 1}) for name in content},
    "a head of brackets": lambda content: {
        **content, "head": ConfigRecord({"head": nested(100_000)}),
    },
    "a head of a megabyte": lambda content: {
        **content, "head": ConfigRecord({"head": json.dumps("x" * 1_000_000)}),
    },
    "a contribution of brackets": lambda content: {
        **content, "contribution": ConfigRecord({"contribution": nested(100_000)}),
    },
    "a round too large for anything": lambda content: {
        **content, "run": ConfigRecord({"round": 2**63 - 1, "plan_digest": "x" * 100_000}),
    },
    "metrics that are no numbers": lambda content: {
        **content, "metrics": MetricRecord({"epsilon": [float("nan")] * 1000}),
    },
}  # fmt: skip


def altered(content, change):
    """The message after a change of `MESSAGES`."""
    changed = change(dict(content))
    return RecordDict(dict(changed))


class Altering(InProcessGrid):
    """The attacker's answers to some kinds of messages are changed on their way."""

    kinds = (wire.PREPARE, wire.POPULARITY, wire.TRAIN, AUDIT)

    def change(self, content):
        return content

    def _deliver(self, message):
        reply = super()._deliver(message)
        about = message.metadata
        hostile = about.dst_node_id == 1000 + ATTACKER and about.message_type in self.kinds
        if hostile and not reply.has_error():
            return Message(self.change(reply.content), reply_to=message)
        return reply


def timed_run(town, delay, *, rounds=None, wrap=TimedGrid, **changes):
    """A run of `town` on simulated time; returns strategy, clock and grid."""
    close_nodes()
    town.run_id += 1
    clock = SimulatedClock()
    config = {"federation": str(town.federation)}
    grid = wrap(app, 3, config, town.run_id, clock=clock, delay=delay)
    strategy = FedtailStrategy(town.setup(**changes))
    strategy.start(PromptGrid(grid, clock=clock, sleep=clock.sleep), num_rounds=rounds)
    return strategy, clock, grid
