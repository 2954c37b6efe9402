"""A party that is put away and taken up between any two messages is the same one."""

import numpy as np
import pytest

from common.errors import SecureSumError
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.encoding import read_request
from common.privacy.secagg.kept import _Kept, _KeptOpen, keep, take_up
from common.privacy.secagg.messages import MaskRequest
from tests.support.secure_sums import SumTown, plain_sum


class PutAway(SecureSumClient):
    """A client of which only bytes are left between two messages."""

    def __init__(self, terms, party):
        super().__init__(terms, party)
        self.content, self.over = keep(SecureSumClient(terms, party)), 0

    def _do(self, what, *arguments):
        client = take_up(self.terms, self.party, self.content, over=self.over)
        try:
            return getattr(client, what)(*arguments)
        finally:
            self.content = keep(client)

    def advertise(self):
        return self._do("advertise")

    def share(self, roster):
        return self._do("share", roster)

    def accept(self, sealed):
        return self._do("accept", sealed)

    def mask(self, request, vector):
        return self._do("mask", request, vector)

    def view(self, request):
        return self._do("view", request)

    def unmask(self, request):
        return self._do("unmask", request)


def put_away_town(parties, **options):
    town = SumTown(parties, setup=False, **options)
    town.clients = {name: PutAway(town.terms, town.party(name)) for name in town.names}
    town.set_up()
    return town


def refused(code, function, *arguments, **named):
    with pytest.raises(SecureSumError) as error:
        function(*arguments, **named)
    assert error.value.public() == f"secure_sum:{code}"


def test_rounds_of_parties_that_are_put_away_between_messages():
    town, chance = put_away_town(5, rounds=3), np.random.default_rng(0)
    for number, gone in ((1, ()), (3, town.names[:1])):
        vectors = town.vectors(chance)
        found = town.run_round(vectors, number, gone_before=gone)
        np.testing.assert_array_equal(found.vector, plain_sum(vectors, found.survivors))


def test_what_is_refused_is_refused_after_it_too():
    town = put_away_town(7, rounds=2)
    vectors = town.vectors(np.random.default_rng(0))
    first = town.clients[town.names[0]]
    refused("keys", first.advertise)
    refused("phase", first.share, town.roster)
    refused("phase", first.accept, town.server.sealed_for(town.names[0]))
    town.mask_all(vectors)
    refused("round", first.mask, _again(town), vectors[town.names[0]])
    second = town.clients[town.names[1]]
    second.view(town.view_request((town.names[6],)))
    refused("views", second.view, town.view_request((town.names[5],)))
    third = town.clients[town.names[2]]
    third.unmask(town.unmask_request())
    refused("unmask", third.unmask, town.unmask_request())


def _again(town):
    return MaskRequest(town.binding("mask"), town.terms.length)


def test_an_older_copy_masks_no_round_that_is_over_and_goes_on_with_the_next():
    town = put_away_town(3, rounds=3)
    vectors = town.vectors(np.random.default_rng(0))
    client = town.clients[town.names[0]]
    older = client.content
    town.mask_all(vectors, 1)
    opened = client.content
    for content in (older, opened):
        client.content, client.over = content, 1
        refused("round", client.mask, _again(town), vectors[town.names[0]])
        client.content = content
        refused("unmask", client.unmask, town.unmask_request())
    client.content = older
    found = town.run_round(vectors, 2)
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names))


def test_secrets_of_rounds_that_are_over_are_not_kept():
    town = put_away_town(3, rounds=3)
    client = town.clients[town.names[0]]
    numbers = {
        number: str(one.own_self.number)
        for number, one in take_up(
            town.terms, client.party, client.content, over=0
        ).setup.rounds.items()
    }
    town.run_round(town.vectors(np.random.default_rng(0)), 2)
    text = client.content.decode("latin-1")
    assert [number for number, secret in numbers.items() if secret in text] == [3]


def test_what_is_kept_shows_no_secret_when_printed():
    client = put_away_town(3, rounds=2).clients["m000"]
    kept = read_request(_Kept, client.content, len(client.content))
    shown = "".join(map(repr, (kept, *kept.rounds, _KeptOpen("mask", "", "", kept.rounds[0]))))
    for one in kept.rounds:
        for number in (one.own_self, one.own_key, *one.self_shares.values()):
            assert str(number) not in shown
    assert repr(kept.cipher) not in shown


def test_another_run_s_another_party_s_or_altered_bytes_are_refused():
    town, other = put_away_town(3), SumTown(3, run_id="8")
    client = town.clients[town.names[0]]
    for terms, party, content in (
        (other.terms, client.party, client.content),
        (town.terms, town.party(town.names[1]), client.content),
        (town.terms, client.party, client.content[:-1]),
        (town.terms, client.party, b""),
    ):
        refused("state", take_up, terms, party, content, over=0)
