"""What takes long to make and many read."""

import pytest


@pytest.fixture(scope="session")
def marketplace():
    """The synthetic marketplace as it is by default, of seed 0."""
    from simulations.data.marketplace import make_marketplace

    return make_marketplace(seed=0)
