import pytest

from tests.support.attacked_door import open_door


@pytest.fixture(scope="session")
def door(tmp_path_factory):
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened
