import pytest
import torch

from client.training.threads import one_thread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_torch_has_one_thread_inside_and_as_many_as_before_after_it(two_threads):
    inside = []

    @one_thread()
    def fail():
        inside.append(torch.get_num_threads())
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert inside == [1]
    assert torch.get_num_threads() == 2
