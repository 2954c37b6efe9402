"""One process for each message, forked from one that has the libraries loaded already.

    python -P -m client.deployment.workers ADDRESS PARENT

Flower starts Python anew for each message: 5 s of a core and 400 MB before any work. Here torch and
the rest are imported once; a message costs a fork, which shares that memory. It stays a process of
its own: what a message leaves behind is gone with it.

Only other people's libraries are loaded before the fork. The app's own code is the one that the run
brought, as where Flower starts the process; and the token for a task is handed over in memory, not
in a command that everybody on the machine can read.

Randomness: noise keys, nonces and signatures come from the operating system, which a fork does not
repeat (`common.privacy.mechanism.noise`, `cryptography`); Python's own generator is seeded anew in
a child.
"""

import importlib
import logging
import os
import sys
import threading
import time

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import run_clientapp

POLL_SECONDS = 0.1
AWAY_SECONDS = 1.0  # the SuperNode is not up yet, or stops
LIBRARIES = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "dp_accounting.pld.privacy_loss_distribution",
    "flwr.cli.build",
    "flwr.clientapp",
    "opacus",
    "polars",
    "pydantic",
    "safetensors.numpy",
    "scipy.sparse",
    "sqlite3",
    "torch",
)
_ROOMS = frozenset({"client", "common", "server", "simulations"})

logger = logging.getLogger("flwr.fedtail")


def serve(address: str, parent: int) -> None:
    """Take tasks from the SuperNode at `address` until process `parent` has gone."""
    for name in LIBRARIES:
        importlib.import_module(name)
    # Some of them put a handler on the root logger, which would print Flower's debug lines too.
    logging.getLogger().handlers.clear()
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,  # the SuperNode's loopback: no other address is accepted in node.toml
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")],
    )
    with client:
        while os.getppid() == parent:
            _reap()
            try:
                answer = client.AcquireTask(request)
            except httpx.HTTPError:
                time.sleep(AWAY_SECONDS)
                continue
            if answer.HasField("task") and answer.token:
                _fork(address, answer.token)
            time.sleep(POLL_SECONDS)


def _fork(address: str, token: str) -> None:
    """Do one task in a child. Nothing returns from there, not even an exception."""
    parent = os.getpid()
    if os.fork():
        return
    status = 1
    try:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        _forget_our_code()
        run_clientapp(
            runtime_api_address=address,
            token=token,
            insecure=True,
            parent_pid=os.getppid(),
            runtime_dependency_install=False,
        )
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - a traceback may quote a row
        logger.error("A task ended with %s.", type(error).__name__)  # noqa: TRY400 - the same
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_with(parent: int) -> None:
    """End this process as soon as `parent` has gone, whatever its other threads wait for.

    Flower watches its parent too, but leaves through handlers that may wait for a thread that is
    stuck. To end at any moment is safe: a charge is on disk before there is noise to lose.
    """
    while os.getppid() == parent:
        time.sleep(AWAY_SECONDS)
    os._exit(1)


def _forget_our_code() -> None:
    """Have the app's modules imported from what the run brought, not from this installation."""
    for name in [one for one in sys.modules if one.partition(".")[0] in _ROOMS]:
        del sys.modules[name]


def _reap() -> None:
    """Let go of the children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
