"""All that a server has of one sum, as bytes: whoever reads it can take the masks off again.

It holds what parties signed, and nothing that the server did not see: the sum, and no summand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.errors import InputError, MaskedReplyError
from common.privacy.secagg.encoding import encode, read_reply
from common.privacy.secagg.messages import MaskedVector, Roster, Terms, UnmaskReply, View
from common.privacy.secagg.server import SecureSumServer

_TERMS, _ROSTER = "terms", "roster"
_MASKED, _VIEWS, _REPLIES = "masked/", "views/", "unmask/"
_MOST_TERMS: Final = 4096

M = TypeVar("M", MaskedVector, View, UnmaskReply)


@dataclass(frozen=True, slots=True)
class Transcript:
    """One sum's.

    Attributes:
        terms: Of the run.
        round_number: The protocol's.
        roster: All parties' keys, signed.
        masked: The vectors that are in the sum.
        views: What survivors signed of who is there; none where nobody was missing.
        replies: The survivors' shares.
    """

    terms: Terms
    round_number: int
    roster: Roster
    masked: tuple[MaskedVector, ...]
    views: tuple[View, ...]
    replies: tuple[UnmaskReply, ...]

    @property
    def asked(self) -> str:
        """Digest of what each party computed on: see `Binding`; the replay holds all to it."""
        return self.masked[0].binding.asked

    @classmethod
    def of(cls, server: SecureSumServer) -> "Transcript":
        """Return that of the sum that a server has finished last."""
        masked, views, replies = server.received
        return cls(
            server.terms,
            server.round_number,
            server.roster(),
            tuple(masked[name] for name in sorted(masked)),
            tuple(views[name] for name in sorted(views)),
            tuple(replies[name] for name in sorted(replies)),
        )

    def to_bytes(self) -> bytes:
        """Return a safetensors file of messages (`common.privacy.secagg.encoding`)."""
        parts = {_TERMS: self.terms, _ROSTER: self.roster}
        for folder, messages in (
            (_MASKED, self.masked),
            (_VIEWS, self.views),
            (_REPLIES, self.replies),
        ):
            parts |= {folder + one.name: one for one in messages}
        tensors = {name: np.frombuffer(encode(one), dtype=np.uint8) for name, one in parts.items()}
        return save(tensors)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Transcript":
        """Read `to_bytes` back; signatures are still to be checked: `common.privacy.secagg.replay`.

        Raises:
            InputError: `transcript` if it is none.
        """
        try:
            tensors = {name: one.tobytes() for name, one in load(content).items()}
            terms = read_reply(Terms, tensors.pop(_TERMS), _MOST_TERMS)
            most = len(content)
            roster = read_reply(Roster, tensors.pop(_ROSTER), most)
            masked = _read(tensors, _MASKED, MaskedVector, most)
            views = _read(tensors, _VIEWS, View, most)
            replies = _read(tensors, _REPLIES, UnmaskReply, most)
        except (SafetensorError, MaskedReplyError, KeyError, ValueError):
            raise InputError("A sum's transcript is not readable.", field="transcript") from None
        if not masked or len(tensors) != len(masked) + len(views) + len(replies):
            raise InputError("A sum's transcript holds something else.", field="transcript")
        return cls(terms, masked[0].binding.round_number, roster, masked, views, replies)


def _read(tensors: Mapping[str, bytes], folder: str, kind: type[M], most: int) -> tuple[M, ...]:
    names = sorted(name for name in tensors if name.startswith(folder))
    found = tuple(read_reply(kind, tensors[name], most) for name in names)
    if [folder + one.name for one in found] != names:
        raise ValueError("a message under another name")
    return found
