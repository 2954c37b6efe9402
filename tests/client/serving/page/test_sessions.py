import pytest

from client.serving.keys import Keys
from client.serving.page.sessions import (
    IDLE_SECONDS,
    LONGEST_SECONDS,
    TICKET_SECONDS,
    Sessions,
    TooManyTriesError,
    same_secret,
)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys.json")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(keys, clock):
    return Sessions(keys, clock)


def test_an_admin_key_opens_a_session_and_no_other_does(keys, sessions):
    token = sessions.sign_in(f"  {keys.new('mine', ['admin'])}\n")
    assert sessions.find(token).csrf
    assert sessions.sign_in(keys.new("website", ["serve", "events"])) is None
    for wrong in ("", "ft_", "ft_00000000_x", "é" * 200, token):
        assert sessions.sign_in(wrong) is None
    assert sessions.find("") is None
    assert sessions.find(token + "x") is None


def test_a_session_ends_when_its_key_is_revoked(keys, sessions):
    token = sessions.sign_in(keys.new("mine", ["admin"]))
    keys.revoke(keys.all()[0].key_id)
    assert sessions.find(token) is None


def test_a_session_ends_when_nobody_comes_and_after_a_day_in_any_case(keys, clock, sessions):
    key = keys.new("mine", ["admin"])
    token = sessions.sign_in(key)
    clock.now += IDLE_SECONDS
    assert sessions.find(token) is None
    token, began = sessions.sign_in(key), clock.now
    while clock.now < began + LONGEST_SECONDS - 1:
        assert sessions.find(token)
        clock.now += IDLE_SECONDS / 2
    clock.now = began + LONGEST_SECONDS
    assert sessions.find(token) is None


def test_whoever_signs_out_is_out(keys, sessions):
    token = sessions.sign_in(keys.new("mine", ["admin"]))
    sessions.end(token)
    assert sessions.find(token) is None


def test_a_ticket_counts_once_and_not_for_long(clock, sessions):
    ticket = sessions.ticket()
    assert sessions.find(sessions.redeem(ticket))
    assert sessions.redeem(ticket) is None
    late = sessions.ticket()
    clock.now += TICKET_SECONDS
    assert sessions.redeem(late) is None
    assert sessions.redeem("") is None


def test_wrong_keys_that_come_fast_are_stopped_and_lock_nobody_out(keys, clock, sessions):
    for _ in range(10):
        assert sessions.sign_in("ft_00000000_x") is None
    with pytest.raises(TooManyTriesError):
        sessions.sign_in("ft_00000000_x")
    assert sessions.sign_in(keys.new("mine", ["admin"]))
    clock.now += 2
    assert sessions.sign_in("ft_00000000_x") is None


def test_there_are_never_more_than_a_hundred_sessions(keys, clock, sessions):
    key = keys.new("mine", ["admin"])
    first = sessions.sign_in(key)
    for _ in range(100):
        clock.now += 1
        last = sessions.sign_in(key)
    assert sessions.find(first) is None
    assert sessions.find(last)


def test_neither_key_nor_token_stands_in_memory(keys, sessions):
    key = keys.new("mine", ["admin"])
    token, ticket = sessions.sign_in(key), sessions.ticket()
    kept = repr([sessions._by_hash, sessions._tickets])
    assert not any(secret in kept for secret in (key, token, ticket))


def test_secrets_are_compared_as_they_are():
    assert same_secret("a", "a")
    assert not same_secret("", "a")
    assert not same_secret("é\ud800", "a")
