"""Keep the proxy in step with the list of nodes and the run that goes on."""

from collections.abc import Iterator

from common.settings.run import RunSettings
from server.operations.door.limits import largest_piece
from server.operations.door.ownership import give_to_proxy
from server.operations.door.proxy import reload_proxy, write_limit, write_nodes
from server.operations.folder import ServerFolder


def admit_now(folder: ServerFolder) -> Iterator[str]:
    """Make the proxy let in those who are enrolled now; yield what the operator is told.

    A proxy is not told where the server has never been started.

    Raises:
        EnrolmentError: if the list of nodes cannot be read.
    """
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
