from collections import Counter as Count

from client.serving.feedback.reach import count_served
from tests.support.served import Counter


def test_the_latest_lists_of_a_model_are_counted_by_product(tmp_path):
    counter = Counter(tmp_path)
    digest = counter.live.snapshot.model.digest
    assert count_served(counter.store.engine, digest).lists == 0
    wanted = Count()
    for place in range(6):
        answer = counter.recommend(shopper_id=f"shopper-{place}", count=3)
        wanted.update(one["item_id"] for one in answer["items"])
    counter.store.lists.flush()
    found = count_served(counter.store.engine, digest)
    assert (found.lists, found.counts) == (6, wanted)
    assert count_served(counter.store.engine, digest, most=2).lists == 2
    assert count_served(counter.store.engine, "0" * 64).counts == {}
    counter.store.close()
