"""A town for each test of fetching: what takes long to make is made once and copied."""

import shutil

import pytest

from tests.support.release_town import Town
from tests.support.repositories import Operator, static_server


@pytest.fixture
def no_power_cuts(monkeypatch):
    """A disk is waited for as rarely as can be: these tests cut no power."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """An operator that has published 1.0, and a node that has it not yet."""
    place = tmp_path_factory.mktemp("template")
    operator = Operator(place / "server")
    operator.publish("1.0")
    operator.node(place)
    return place


@pytest.fixture(scope="session")
def template2(template, tmp_path_factory):
    """The same after 2.0, which the node uses; `old` is what was served before."""
    place = shutil.copytree(template, tmp_path_factory.mktemp("template2") / "town")
    with static_server(place / "server" / "public" / "releases") as web:
        town = Town(place, web)
        town.copy("old")
        town.operator.publish("2.0")
        town.fetch()
    return place


@pytest.fixture
def town(template, tmp_path, no_power_cuts):
    place = shutil.copytree(template, tmp_path / "town", symlinks=True)
    with static_server(place / "server" / "public" / "releases") as web:
        yield Town(place, web)


@pytest.fixture
def town2(template2, tmp_path, no_power_cuts):
    """A node that uses 2.0, which came after 1.0; `old` is a copy of what was served before."""
    place = shutil.copytree(template2, tmp_path / "town", symlinks=True)
    with static_server(place / "server" / "public" / "releases") as web:
        town = Town(place, web)
        town.old = town.place.with_name("old")
        yield town
