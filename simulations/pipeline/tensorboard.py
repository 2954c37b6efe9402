"""TensorBoard's event files, where the user asks for them."""

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from common.errors import InputError
from server.run.checkpoint import RoundRecord


class Board(Protocol):
    """Takes a round's numbers."""

    def round(self, record: RoundRecord) -> None:
        """Log what a round's record holds; all of it is public."""


class NoBoard:
    """Logs nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def round(self, record: RoundRecord) -> None:
        """Log nothing."""


class TensorBoard:
    """Writes scalars that `tensorboard --logdir FOLDER` shows."""

    def __init__(self, folder: Path) -> None:
        """Open the folder for a new event file.

        Raises:
            InputError: if tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
        except ImportError:
            raise InputError(
                "--tensorboard needs the package: pip install 'fedtail[tensorboard]'.",
                field="tensorboard",
            ) from None
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def round(self, record: RoundRecord) -> None:
        """Log what a round's record holds; all of it is public."""
        scalars = {
            "privacy/epsilon": record.epsilon,
            "update/norm": record.update_norm,
            "update/learning_rate": record.learning_rate,
            "bytes/up": record.bytes_up,
            "bytes/down": record.bytes_down,
            "round/seconds": record.seconds,
            "round/participants": record.participants,
        }
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, record.round_number)


def open_board(folder: Path, *, wanted: bool) -> NoBoard | TensorBoard:
    """Return a board that writes to `folder`, or one that does nothing.

    Raises:
        InputError: if it is wanted and tensorboard is not installed.
    """
    return TensorBoard(folder) if wanted else NoBoard()
