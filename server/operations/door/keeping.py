"""Keep the proxy in step with the list of nodes, their certificates and the run that goes on."""

from collections.abc import Iterator
from datetime import datetime

from common.errors import EnrolmentError
from common.settings.run import RunSettings
from server.operations.door.limits import largest_piece
from server.operations.door.node_certificates import renew_certificates
from server.operations.door.ownership import give_to_proxy
from server.operations.door.proxy import reload_proxy, write_limit, write_nodes
from server.operations.folder import ServerFolder


def renew(folder: ServerFolder, now: datetime) -> Iterator[str]:
    """Renew nodes' certificates that are due, and yield what the operator is told.

    It never fails: a server whose authority's key lies elsewhere says so and goes on.
    """
    try:
        for name in renew_certificates(folder, now):
            yield f"{name} has a new certificate; its node fetches it."
    except EnrolmentError as error:
        yield (
            f"A node's certificate is due, and cannot be renewed: {error} Put the authority's key "
            "back and run `fedtail server renew`."
        )


def admit_now(folder: ServerFolder, now: datetime) -> Iterator[str]:
    """Make the proxy let in those who are enrolled now; yield what the operator is told.

    Nothing is done where the server has never been started.

    Raises:
        EnrolmentError: if the list of nodes cannot be read.
    """
    yield from (line for line in renew(folder, now) if "cannot" in line)
    if not folder.proxy.is_dir():
        return
    write_nodes(folder)
    give_to_proxy(folder)
    if told := reload_proxy(folder):
        yield told


def narrow_to(folder: ServerFolder, settings: RunSettings, items: int) -> str:
    """Let nothing through that is larger than a run's largest honest message.

    Args:
        folder: The server's.
        settings: The run's.
        items: In its public catalogue.

    Returns:
        What the operator has to do; mostly nothing.
    """
    if not folder.proxy.is_dir() or not write_limit(folder, largest_piece(settings, items)):
        return ""
    give_to_proxy(folder)
    return reload_proxy(folder)
