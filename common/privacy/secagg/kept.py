"""A party between two messages, as bytes: a node may take each message in a process of its own.

Who keeps it must have it on disk, for its owner only, before the message that it goes with leaves,
and in place of what was there before. A party that is taken up from an older copy would mask two
vectors with the same masks, and their difference would be plain. So whoever takes one up also says
which rounds are over, by another record than this: the ledger's charges. That a round's shares were
given is told by these bytes alone: that they are the latest is for their keeper to know.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import SecureSumError
from common.privacy.secagg.client import OpenRound, SecureSumClient
from common.privacy.secagg.encoding import encode, read_request
from common.privacy.secagg.keys import KeyPair, RoundSecret
from common.privacy.secagg.messages import Advertisement, Phase, Roster, Terms
from common.privacy.secagg.setup import Party, RoundSecrets

_MOST = 2**30


@dataclass(frozen=True, slots=True, repr=False)  # secrets are not shown
class _KeptRound:
    number: int
    own_self: int
    own_key: int
    self_shares: Mapping[str, int]
    key_shares: Mapping[str, int]


@dataclass(frozen=True, slots=True, repr=False)  # secrets are not shown
class _KeptOpen:
    phase: Phase
    view: str
    asked: str
    secrets: _KeptRound


@dataclass(frozen=True, slots=True, repr=False)  # secrets are not shown
class _Kept:
    """All of a party; a tuple of one or none stands for what may be missing."""

    terms: str
    name: str
    cipher: bytes
    told: tuple[Advertisement, ...]
    roster: tuple[Roster, ...]
    over: int
    ready: int
    last: int
    rounds: tuple[_KeptRound, ...]
    opened: tuple[_KeptOpen, ...]


def keep(client: SecureSumClient) -> bytes:
    """Return a party as bytes. They are secret: whoever has them can take its masks off."""
    setup, opened = client.setup, client.opened
    return encode(
        _Kept(
            terms=client.terms.digest,
            name=client.party.name,
            cipher=setup.cipher.raw,
            told=() if setup.told is None else (setup.told,),
            roster=() if setup.member is None else (setup.member.roster,),
            over=int(setup.over),
            ready=int(client.member is not None),
            last=client.last,
            rounds=tuple(_kept(number, one) for number, one in sorted(setup.rounds.items())),
            opened=()
            if opened is None
            else (
                _KeptOpen(
                    opened.phase,
                    opened.view,
                    opened.asked,
                    _kept(opened.number, opened.secrets),
                ),
            ),
        )
    )


def take_up(terms: Terms, party: Party, content: bytes, *, over: int) -> SecureSumClient:
    """Return the party that `keep` wrote.

    Args:
        terms: Of the run, as the node has them.
        party: As before.
        content: What `keep` gave.
        over: No round up to this one is masked or unmasked again, whatever was kept: the last one
            that the node was charged for, but for the round whose shares are asked for now.

    Raises:
        SecureSumError: `state`, if it is not readable, or of another run or party.
    """
    try:
        kept = read_request(_Kept, content, _MOST)
    except SecureSumError:
        raise SecureSumError("What was kept is not readable.", field="state") from None
    if (kept.terms, kept.name) != (terms.digest, party.name):
        raise SecureSumError("What was kept is another run's or party's.", field="state")
    client = SecureSumClient(terms, party, fresh=False)
    setup = client.setup
    setup.cipher = KeyPair(kept.cipher)
    setup.told = kept.told[0] if kept.told else None
    setup.over = bool(kept.over)
    client.last = max(kept.last, over)
    setup.rounds = {one.number: _secrets(one) for one in kept.rounds if one.number > client.last}
    setup.member = setup.member_of(kept.roster[0]) if kept.roster else None
    client.member = setup.member if kept.ready else None
    for one in kept.opened:
        number = one.secrets.number
        if number > over:
            client.opened = OpenRound(number, one.phase, _secrets(one.secrets), one.view, one.asked)
    return client


def _kept(number: int, secrets: RoundSecrets) -> _KeptRound:
    return _KeptRound(
        number,
        secrets.own_self.number,
        secrets.own_key.number,
        secrets.self_shares,
        secrets.key_shares,
    )


def _secrets(kept: _KeptRound) -> RoundSecrets:
    return RoundSecrets(
        RoundSecret(kept.own_self),
        RoundSecret(kept.own_key),
        dict(kept.self_shares),
        dict(kept.key_shares),
    )
