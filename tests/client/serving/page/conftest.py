import pytest

from tests.support.visits import PageCounter, Visitor


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    found = PageCounter(tmp_path_factory.mktemp("page"))
    yield found
    found.store.close()


@pytest.fixture
def visitor(counter):
    return Visitor(counter)
