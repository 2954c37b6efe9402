"""A small federation as processes that can be killed: a server, three nodes and a clerk.

They are forked from this process, which has all imports done, and meet in a folder: a file for each
message and each answer, which outlives them as SuperLink's database would. What runs in them is the
app, the strategy, ledgers, journal, checkpoints and the operator's list of nodes, on disk.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
from flwr.app import Context, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.node import session
from client.privacy.policy import Policy
from common.errors import FedtailError
from common.federation.optimiser import OptimiserState, learning_rate
from common.files import write_atomic
from common.identity.enrolment import make_request
from common.identity.node_key import NodeKey
from common.privacy.accounting.accountants import ceiling_for
from server.operations.folder import ServerFolder
from server.operations.provisioning import enrol, make_invite
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.doors import keys_of
from tests.support.fake_node import LOCAL, FakeShops, make_setup, seeded
from tests.support.ledger_node import LedgerWork

logger = logging.getLogger(__name__)
NAMES = ("ash", "birch", "cedar")
PLAN = replace(LOCAL, noise_multiplier=2.0)
REPEATED = 4  # rounds that the policy lets a stop repeat
CEILING = ceiling_for((*PLAN.events(), replace(PLAN.event("train"), count=REPEATED)), PLAN.delta)
POLICY = Policy(
    max_epsilon=CEILING, max_run_epsilon=CEILING, delta=PLAN.delta, min_noise_multiplier=0.0
)
FINISHED, STOPPED = 0, 3
ALIVE_SECONDS, POLL, ROUND_SECONDS = 2.0, 0.01, 4.0  # of a machine that may be busy


class SlowWork(LedgerWork):
    """Takes its time before and after the charge, so that kills fall on either side."""

    policy = POLICY

    def before(self, kind, number):
        time.sleep(time.monotonic_ns() % 80_000_000 / 1e9)  # up to 0.08 s

    after = before


# ------------------------------------------------------------------------ post
def put(path, message):
    write_atomic(path, message_to_proto(message).SerializeToString(), sync_name=False)


def take(path):
    return message_from_proto(ProtoMessage.FromString(path.read_bytes()))


class PostGrid(InProcessGrid):
    """The server's way to nodes that are other processes."""

    def __init__(self, post, run_id, nodes):
        super().__init__(app, nodes, {}, run_id)
        self.post, self.nodes = post, nodes

    def get_node_ids(self):
        self._identify()
        now = time.time()
        beats = ((self.post / f"{place}.alive", place) for place in range(self.nodes))
        alive = []
        for beat, place in beats:
            with contextlib.suppress(FileNotFoundError):
                if now - beat.stat().st_mtime < ALIVE_SECONDS:
                    alive.append(1000 + place)
        return alive

    def push_messages(self, messages):
        names = []
        for message in messages:
            name = uuid4().hex
            message.metadata.__dict__["_message_id"] = name
            inbox = self.post / f"in-{message.metadata.dst_node_id - 1000}"
            put(inbox / f"{time.monotonic_ns():020d}-{name}", message)
            names.append(name)
        return names

    def pull_messages(self, message_ids):
        answers = []
        for name in message_ids:
            path = self.post / "out" / name
            if path.exists():
                answers.append(take(path))
                path.unlink()
        return answers

    def send_and_receive(self, messages, *, timeout=None):
        self._identify()
        waiting = set(self.push_messages(messages))
        answers, end = [], time.monotonic() + timeout
        while waiting and time.monotonic() < end:
            for answer in self.pull_messages(sorted(waiting)):
                waiting.discard(answer.metadata.reply_to_message_id)
                answers.append(answer)
            time.sleep(POLL)
        return answers


# ------------------------------------------------------------------- processes
class ProcessTown:
    """Starts and kills; `root` is all that lasts."""

    names, make = NAMES, SlowWork

    def __init__(self, root):
        self.root, self.post, self.run_folder = root, root / "post", root / "run"
        self.federation, self.operator = root / "federation", ServerFolder(root / "operator")
        for name in self.names:
            (self.federation / name).mkdir(parents=True)
        for folder in ("out", *(f"in-{place}" for place in range(len(self.names)))):
            (self.post / folder).mkdir(parents=True)
        self.pids = {}
        self.starts = 0

    def start(self, who):
        """Fork a process: a node by its name, `server` or `clerk`."""
        self.starts += 1
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self.pids[who] = pid
            return
        code = 1
        try:
            log = os.open(self.root / f"{who}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            logging.basicConfig(force=True, stream=os.fdopen(2, "w", closefd=False))
            main = {"server": self._server, "clerk": self._clerk}.get(who)
            code = main() if main else self._node(self.names.index(who))
        except BaseException:
            logger.exception("%s failed", who)
        finally:
            os._exit(code)

    def kill(self, who):
        """As a power cut does it; nothing if it has ended."""
        pid = self.pids.pop(who, None)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def ended(self, who):
        """The status of a process that has ended by itself; None while it runs or was killed."""
        pid = self.pids.get(who)
        if pid is None:
            return None
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            return None
        del self.pids[who]
        return os.waitstatus_to_exitcode(status)

    def stop_all(self):
        for who in tuple(self.pids):
            self.kill(who)

    def setup(self):
        return make_setup(
            plan=PLAN,
            quorum=Quorum(2, 0.5, 10.0),
            round_timeout=ROUND_SECONDS,
            prepare_timeout=ROUND_SECONDS,
            folder=self.run_folder,
            journal=self.run_folder / "journal.jsonl",
        )

    def _server(self):
        try:
            FedtailStrategy(self.setup()).start(PostGrid(self.post, self.starts, len(self.names)))
        except FedtailError as error:
            logger.warning("stopped: %s", error)
            return STOPPED
        return FINISHED

    def _node(self, place):
        shops = FakeShops()
        shops.make = self.make
        sys.modules["client.node.participant"] = shops
        session.close_nodes()
        config = {"data": str(self.federation / self.names[place])}
        contexts = {}
        inbox = self.post / f"in-{place}"
        while True:
            (self.post / f"{place}.alive").touch()
            for path in sorted(inbox.glob("[0-9]*")):
                message = take(path)
                path.unlink()  # delivered: whoever dies now has lost it, as in Flower
                run_id = message.metadata.run_id
                TaskIdentity.run_id, TaskIdentity.node_id = run_id, 1000 + place
                TaskIdentity.task_id = 1
                context = contexts.setdefault(
                    run_id, Context(run_id, 1000 + place, config, RecordDict(), {})
                )
                answer = app(message, context)
                answer.metadata.__dict__["_message_id"] = uuid4().hex
                put(self.post / "out" / message.metadata.message_id, answer)
            time.sleep(POLL)

    def _clerk(self):
        """Enrol one node after the other; note each one once it is confirmed."""
        noted, keys = self.root / "enrolled", keys_of(self.operator.root)
        while True:
            name, now = f"shop-{uuid4().hex[:12]}", datetime.now(UTC)
            invite = make_invite(self.operator, keys, name, now)
            enrol(self.operator, keys, make_request(invite, NodeKey.generate(), now), now)
            with noted.open("a") as file:
                file.write(f"{name}\n")
            time.sleep(0.05)


# ---------------------------------------------------------------------- oracle
def by_hand(rounds):
    """The adapter that a run must have whose rounds had these merchants, each in order of names."""
    setup = make_setup(plan=PLAN)
    vector = setup.adapter.flatten()
    state = OptimiserState.empty(setup.adapter.size)
    for number, merchants in enumerate(rounds, 1):
        updates = []
        for merchant in sorted(merchants):
            target = seeded("target", merchant).normal(size=vector.size)
            noise = seeded("noise", merchant, number).normal(size=vector.size) * 0.1
            updates.append((vector - target + noise).astype(np.float32).astype(np.float64))
        mean = np.sum(updates, axis=0) / len(updates)
        rate = learning_rate(setup.schedule, setup.learning_rate, number, PLAN.rounds)
        state, moved = setup.optimiser.step(state, vector.astype(np.float64), mean, rate)
        vector = moved.astype(np.float32)
    return vector
