import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.adapter import AdapterState, AdapterUpdate
from common.errors import FederationError, FedtailError, PrivacyError
from common.privacy.mechanism.rounding import rounded
from common.wire import messages
from common.wire.reasons import known_reason
from common.wire.sizes import size_in_bytes

PLAN = "a" * 64
FINITE = st.floats(-1e6, 1e6, width=32)


def through_flower(content):
    """The records after Flower's own serialisation, as a deployed peer reads them."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    contents = {key: one.deflate() for key, one in get_all_nested_objects(content).items()}
    return inflate_object_from_contents(content.object_id, contents)


def refused(field, call, *arguments):
    with pytest.raises(FederationError) as caught:
        call(*arguments)
    assert caught.value.field == field


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=FINITE),
    arrays(np.float32, 5, elements=FINITE),
    st.integers(1, 10**6),
)
def test_a_train_request_arrives_as_it_was_sent(tensor, popularity, number):
    adapter = AdapterState({"layer.lora_B.weight": tensor})
    sent = messages.TrainRequest(adapter, popularity, number, PLAN)
    got = messages.decode_train(through_flower(messages.encode_train(sent)), 5, PLAN)
    assert got.adapter.digest == adapter.digest
    assert got.popularity.tobytes() == popularity.tobytes()
    assert (got.round_number, got.plan_digest) == (number, PLAN)


@given(
    st.binary(max_size=50),
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.booleans() | st.integers(-(2**31), 2**31) | FINITE | st.text(max_size=8),
        max_size=5,
    ),
)
def test_a_prepare_request_arrives_as_it_was_sent(basis, settings):
    sent = messages.PrepareRequest(basis, settings, "{}")
    got = messages.decode_prepare(through_flower(messages.encode_prepare(sent)))
    assert (got.basis, dict(got.settings), got.plan) == (basis, settings, "{}")
    assert {name: type(value) for name, value in got.settings.items()} == {
        name: type(value) for name, value in settings.items()
    }


def test_public_facts_and_counts_arrive_as_they_were_sent():
    keys = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    got = messages.decode_prepared(
        through_flower(messages.encode_prepared(messages.Prepared("ash", "digest", keys)))
    )
    assert (got.merchant, got.catalogue_digest, got.items) == ("ash", "digest", 3)
    np.testing.assert_array_equal(got.text_keys, keys)
    counts = np.array([1.5, -2, 0], dtype=np.float32)
    received = messages.decode_popularity(
        through_flower(messages.encode_popularity(counts, PLAN)), 3, PLAN
    )
    np.testing.assert_array_equal(received, counts)


def update_content(**changes):
    update = AdapterUpdate(np.arange(4, dtype=np.float32), 2, PLAN)
    content = messages.encode_update(update, {"epsilon": 1.5, "delta": 1e-5})
    for name, record in changes.items():
        content[name] = record
    return content


def test_an_update_arrives_as_it_was_sent():
    got, metrics = messages.decode_update(through_flower(update_content()), 4, 2, PLAN)
    np.testing.assert_array_equal(got.vector, np.arange(4, dtype=np.float32))
    assert (got.round_number, got.plan_digest) == (2, PLAN)
    assert metrics == {"epsilon": 1.5, "delta": 1e-5}


@pytest.mark.parametrize("name", ["loss", "num-examples", "shoppers", "epsilon "])
def test_no_metric_outside_the_list_leaves_or_enters(name):
    update = AdapterUpdate(np.zeros(4, dtype=np.float32), 2, PLAN)
    refused("metrics", messages.encode_update, update, {"epsilon": 1.0, name: 3.0})
    content = update_content(metrics=MetricRecord({name: 3.0}))
    refused("metrics", messages.decode_update, content, 4, 2, PLAN)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_must_be_finite(value):
    update = AdapterUpdate(np.zeros(4, dtype=np.float32), 2, PLAN)
    refused("metrics", messages.encode_update, update, {"epsilon": value})
    content = update_content(metrics=MetricRecord({"epsilon": value}))
    refused("metrics", messages.decode_update, content, 4, 2, PLAN)


def test_an_update_of_another_round_plan_or_length_is_refused():
    refused("round", messages.decode_update, update_content(), 4, 3, PLAN)
    refused("plan_digest", messages.decode_update, update_content(), 4, 2, "b" * 64)
    refused("vector", messages.decode_update, update_content(), 5, 2, PLAN)
    run = ConfigRecord({"round": True, "plan_digest": PLAN})
    refused("round", messages.decode_update, update_content(run=run), 4, 1, PLAN)


def test_the_sender_refuses_what_the_reader_would():
    bad = np.array([1, np.inf], dtype=np.float32)
    refused("update", messages.encode_update, AdapterUpdate(bad, 1, PLAN), {})
    refused("update", messages.encode_update, AdapterUpdate(np.zeros(2), 1, PLAN), {})  # float64
    refused("counts", messages.encode_popularity, bad, PLAN)


def npy(values, *, shape=None, descr=None):
    """An .npy file whose header may lie."""
    stream = io.BytesIO()
    header = {
        "descr": descr or np.lib.format.dtype_to_descr(values.dtype),
        "fortran_order": False,
        "shape": shape or values.shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + values.tobytes()


def with_vector(data, *, names=("vector",)):
    array = Array(dtype="float32", shape=(4,), stype="numpy.ndarray", data=data)
    return update_content(update=ArrayRecord(dict.fromkeys(names, array)))


GOOD = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"not an array",
        npy(GOOD)[:-1],
        npy(GOOD) + b"\0",
        npy(GOOD, shape=(2**50,)),  # must not allocate four petabytes
        npy(GOOD, shape=(2, 2)),
        npy(GOOD, descr="<i4"),
        npy(GOOD.astype(np.float64)),
        npy(np.array([1, 2, np.nan, 4], dtype=np.float32)),
        npy(np.array([1, 2, np.inf, 4], dtype=np.float32)),
        b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535,
    ],
)
def test_a_false_array_is_refused(data):
    refused("vector", messages.decode_update, with_vector(data), 4, 2, PLAN)


def test_an_array_beside_the_expected_one_is_refused():
    content = with_vector(npy(GOOD), names=("vector", "extra"))
    refused("update", messages.decode_update, content, 4, 2, PLAN)


def test_python_objects_are_never_unpickled():
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}] * 4, dtype=object), allow_pickle=True)
    refused("vector", messages.decode_update, with_vector(stream.getvalue()), 4, 2, PLAN)


def test_each_record_is_needed():
    for name in ("update", "run", "metrics"):
        content = update_content()
        del content[name]
        refused(name, messages.decode_update, content, 4, 2, PLAN)
    refused("run", messages.decode_prepare, RecordDict())
    refused("facts", messages.decode_prepared, RecordDict())
    refused("run", messages.decode_train, RecordDict(), 3, PLAN)


def test_a_train_request_is_checked_by_the_node():
    adapter = AdapterState({"b": np.zeros(2, dtype=np.float32)})
    request = messages.TrainRequest(adapter, np.ones(3, dtype=np.float32), 1, PLAN)
    refused("popularity", messages.decode_train, messages.encode_train(request), 4, PLAN)
    refused("plan_digest", messages.decode_train, messages.encode_train(request), 3, "b" * 64)
    zero = messages.TrainRequest(adapter, None, 0, PLAN)
    refused("round", messages.decode_train, messages.encode_train(zero), 3, PLAN)


def test_a_basis_altered_on_the_way_is_refused():
    content = messages.encode_prepare(messages.PrepareRequest(b"basis", {}, "{}"))
    content["run"]["basis"] = b"basIs"
    refused("basis_digest", messages.decode_prepare, content)
    content = messages.encode_prepare(messages.PrepareRequest(b"basis", {}, "{}"))
    content["run"]["version"] = messages.WIRE_VERSION + 1
    refused("version", messages.decode_prepare, content)


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_error_leaves_as_a_code_and_at_most_one_word(text, field):
    for error in (ValueError(text), PrivacyError(text, field=field), FedtailError(field, field="")):
        sent = messages.error_reply(error)
        assert sent.code == messages.ERROR_CODE
        code, _, word = sent.reason.partition(":")
        assert code in {"internal", "privacy", "error"}
        assert word in {"", field}
        assert not any(letter.isspace() or letter.isdigit() for letter in word)
        assert messages.error_reason(sent) == known_reason(sent.reason)


def test_the_reader_keeps_no_text_of_other_errors():
    assert messages.error_reason(Error(2, "<class 'ValueError'>:<'red teapot'>")) == "flower:2"
    assert messages.error_reason(Error(messages.ERROR_CODE, "red teapot")) == "internal"
    assert messages.error_reason(Error(messages.ERROR_CODE, None)) == "internal"


@pytest.mark.parametrize("code", [-1, 0, messages.ERROR_CODE + 1, 447_700_900_123])
def test_a_made_up_number_is_not_kept(code):
    assert messages.error_reason(Error(code, "red teapot")) == "flower:0"


def test_sizes_count_the_arrays():
    small, large = (
        messages.encode_popularity(np.zeros(items, dtype=np.float32), PLAN) for items in (10, 1010)
    )
    assert size_in_bytes(large) - size_in_bytes(small) == 4000


def test_an_update_of_the_default_size_takes_a_24th_of_lora_on_q_and_v_in_floats():
    peer = 6 * 2 * 2 * 384 * 8 * 4  # layers, q and v, A and B, width, rank, bytes
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 96)))[0]
    inner = np.random.default_rng(1).normal(size=(96, 16))
    noised = (frame @ inner).ravel().astype(np.float32)
    update = AdapterUpdate(rounded(noised), 2, PLAN)
    content = messages.encode_update(update, {})
    assert size_in_bytes(content) < peer / 24 - 1000  # head, signature and seal beside it
    found, _ = messages.decode_update(content, noised.size, 2, PLAN)
    assert np.array_equal(found.vector, update.vector)
    plain = messages.encode_update(AdapterUpdate(noised, 2, PLAN), {})
    assert np.array_equal(messages.decode_update(plain, noised.size, 2, PLAN)[0].vector, noised)
