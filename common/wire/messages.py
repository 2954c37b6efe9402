"""Our types to and from Flower's records, checked on both sides.

Five requests go from the coordinator to a node, and five replies come back:

    prepare     basis, settings, plan      ->  merchant, catalogue digest, text keys, commitment
    popularity  (nothing but the plan)     ->  noised counts by item
    season      (nothing but the plan)     ->  noised season vector (`common.wire.season`)
    train       adapter, popularity        ->  the node's update
    audit       (nothing but the plan)     ->  the run's canaries (`common.wire.canaries`)

Each message names the privacy plan by its digest and is refused by a reader who holds another.
Metrics leave a node only if ALLOWED_METRICS names them, and errors only as a code and a field.

Every `decode_` is total: whatever a message holds, it becomes a value or a FederationError. Sizes
are checked before anything is made of what they announce.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from numpy.typing import NDArray

from common.adapter import AdapterState, AdapterUpdate
from common.errors import FederationError, FedtailError
from common.files import DISK_FULL, sha256_hex
from common.privacy.accounting.plan import ALLOWED_METRICS
from common.wire.arrays import pack_array, unpack_array
from common.wire.packed_vector import pack_vector, unpack_vector
from common.wire.reasons import INTERNAL, known_reason
from common.wire.totality import total

WIRE_VERSION = 4
ERROR_CODE = 100  # Flower's own error codes end below this
PREPARE = "query.prepare"
POPULARITY = "query.popularity"
TRAIN = "train"

Scalar = bool | int | float | str
Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)
Value = TypeVar("Value", bytes, int, str)

_MAY_BE_EMPTY = ("canaries_commitment", "base_model")  # of a node's facts
MOST_ITEMS = 5_000_000  # of one catalogue
MOST_FACT = 200  # characters of a name or digest that a node tells
_PUBLIC_FIELD = re.compile(r"[a-z][a-z_]{0,39}")  # no digit, space or capital: no id, no title


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a node tells about itself once its catalogue is encoded. All of it is public.

    Attributes:
        merchant: The node's name, unique in a federation; updates are summed in its order.
        catalogue_digest: SHA-256 of the catalogue.
        text_keys: uint64 [items], equal between merchants exactly when the items' texts are.
        canaries_commitment: To the run's canaries (`CanaryRecord.commitment`); empty without them.
        base_model: The digest of the base model that the node loaded; empty where it has none.
    """

    merchant: str
    catalogue_digest: str
    text_keys: NDArray[np.uint64]
    canaries_commitment: str = ""
    base_model: str = ""

    @property
    def items(self) -> int:
        """How many items the catalogue has."""
        return len(self.text_keys)


@dataclass(frozen=True, eq=False)
class PrepareRequest:
    """Everything a node must hold before it trains.

    Attributes:
        basis: A safetensors file of frozen public tensors (whitening, LoRA's A).
        settings: The run's settings, flat.
        plan: The privacy plan as JSON.
    """

    basis: bytes
    settings: Mapping[str, Scalar]
    plan: str


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """One round's work for one node.

    Attributes:
        adapter: The global adapter.
        popularity: float32 [items] in the node's own item order, or None for uniform.
        round_number: Counted from 1.
        plan_digest: The plan the node must hold.
    """

    adapter: AdapterState
    popularity: NDArray[np.float32] | None
    round_number: int
    plan_digest: str


# ------------------------------------------------------------------ prepare
def encode_prepare(request: PrepareRequest) -> RecordDict:
    """Return the request's records; `basis_digest` lets the node check that the bytes arrived."""
    run = ConfigRecord(
        {
            "version": WIRE_VERSION,
            "basis": request.basis,
            "basis_digest": sha256_hex(request.basis),
            "plan": request.plan,
        }
    )
    return RecordDict({"run": run, "settings": ConfigRecord(dict(request.settings))})


@total
def decode_prepare(content: RecordDict) -> PrepareRequest:
    """Read a prepare request.

    Raises:
        FederationError: if a record is missing or of the wrong kind, the version differs or the
            basis does not match its digest.
    """
    run = _record(content, "run", ConfigRecord)
    _expect("version", _value(run, "version", int), WIRE_VERSION)
    basis = _value(run, "basis", bytes)
    _expect("basis_digest", _value(run, "basis_digest", str), sha256_hex(basis))
    settings: dict[str, Scalar] = {}
    for name, value in _record(content, "settings", ConfigRecord).items():
        if not isinstance(value, bool | int | float | str):
            raise FederationError("A setting is a list or bytes, not a scalar.", field="settings")
        settings[name] = value
    return PrepareRequest(basis, settings, _value(run, "plan", str))


def encode_prepared(prepared: Prepared) -> RecordDict:
    """Return the records of a node's public facts."""
    facts = ConfigRecord(
        {"merchant": prepared.merchant, "catalogue_digest": prepared.catalogue_digest}
    )
    for name in _MAY_BE_EMPTY:
        if value := getattr(prepared, name):  # Flower cannot count the bytes of an empty text
            facts[name] = value
    keys = pack_array(prepared.text_keys, np.uint64, "text_keys")
    return RecordDict({"facts": facts, "keys": ArrayRecord({"text_keys": keys})})


@total
def decode_prepared(content: RecordDict) -> Prepared:
    """Read a node's public facts.

    Raises:
        FederationError: if a fact is missing, of the wrong kind, empty, or too long.
    """
    facts = _record(content, "facts", ConfigRecord)
    told = {name: _fact(facts, name) for name in ("merchant", "catalogue_digest")}
    told |= {name: _fact(facts, name) for name in _MAY_BE_EMPTY if name in facts}
    keys = only_array(content, "keys", "text_keys", np.uint64, most=MOST_ITEMS)
    if not told["merchant"] or not keys.size:
        raise FederationError("A node named no merchant or no item.", field="facts")
    return Prepared(text_keys=keys, **told)


# --------------------------------------------------------------- popularity
def encode_plan_request(plan_digest: str) -> RecordDict:
    """Return a request that names a plan and no more: for a histogram or a season."""
    return RecordDict({"run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_plan_request(content: RecordDict, plan_digest: str) -> None:
    """Check that the request names the plan the node holds.

    Raises:
        FederationError: if it does not.
    """
    run = _record(content, "run", ConfigRecord)
    _expect("plan_digest", _value(run, "plan_digest", str), plan_digest)


def encode_popularity(counts: NDArray[np.float32], plan_digest: str) -> RecordDict:
    """Return the records of a noised histogram, float32 [items]."""
    record = ArrayRecord({"counts": pack_array(counts, np.float32, "counts")})
    return RecordDict({"popularity": record, "run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_popularity(content: RecordDict, items: int, plan_digest: str) -> NDArray[np.float32]:
    """Read a noised histogram, float32 [items].

    Raises:
        FederationError: on another plan, length or dtype, or a number that is not finite.
    """
    decode_plan_request(content, plan_digest)
    return only_array(content, "popularity", "counts", np.float32, shape=(items,))


# -------------------------------------------------------------------- train
def adapter_record(adapter: AdapterState) -> ArrayRecord:
    """Return an adapter as a record of its tensors by name."""
    return ArrayRecord(
        {
            name: pack_array(tensor, np.float32, "adapter")
            for name, tensor in adapter.tensors.items()
        }
    )


@total
def read_adapter(record: ArrayRecord) -> AdapterState:
    """Return the adapter in `record`.

    Raises:
        FederationError: if a tensor is not float32 and finite.
    """
    return AdapterState(
        {name: unpack_array(array, np.float32, "adapter") for name, array in record.items()}
    )


def encode_train(request: TrainRequest) -> RecordDict:
    """Return the records of one round's work."""
    records: dict[str, ArrayRecord | ConfigRecord | MetricRecord] = {
        "adapter": adapter_record(request.adapter),
        "run": ConfigRecord({"round": request.round_number, "plan_digest": request.plan_digest}),
    }
    if request.popularity is not None:
        array = pack_array(request.popularity, np.float32, "popularity")
        records["popularity"] = ArrayRecord({"popularity": array})
    return RecordDict(records)


@total
def decode_train(content: RecordDict, items: int, plan_digest: str) -> TrainRequest:
    """Read one round's work at a node with `items` items that holds the plan of `plan_digest`.

    Raises:
        FederationError: on another plan, a round below 1, a popularity of another length, or a
            tensor that is not float32 and finite.
    """
    run = _record(content, "run", ConfigRecord)
    _expect("plan_digest", _value(run, "plan_digest", str), plan_digest)
    round_number = _value(run, "round", int)
    if round_number < 1:
        raise FederationError("The round number is below 1.", field="round")
    popularity = None
    if "popularity" in content:
        popularity = only_array(content, "popularity", "popularity", np.float32, shape=(items,))
    adapter = read_adapter(_record(content, "adapter", ArrayRecord))
    return TrainRequest(adapter, popularity, round_number, plan_digest)


def encode_update(update: AdapterUpdate, metrics: Mapping[str, float]) -> RecordDict:
    """Return the records of an update: the only door through which a metric leaves a node.

    Raises:
        FederationError: if a metric is not in ALLOWED_METRICS, or a number is not finite.
    """
    if not ALLOWED_METRICS.issuperset(metrics):
        raise FederationError(
            f"A metric is not among those that may leave a node: {sorted(ALLOWED_METRICS)}.",
            field="metrics",
        )
    values = {name: float(metrics[name]) for name in sorted(metrics)}
    if not all(math.isfinite(value) for value in values.values()):
        raise FederationError("A metric is not finite.", field="metrics")
    run = ConfigRecord({"round": update.round_number, "plan_digest": update.plan_digest})
    array = pack_array(update.vector, np.float32, "update")
    packed = pack_vector(update.vector)  # what was rounded at the node needs half the bytes
    vector = ArrayRecord({"vector": array}) if packed is None else ConfigRecord({"vector": packed})
    return RecordDict({"update": vector, "run": run, "metrics": MetricRecord(dict(values))})


@total
def decode_update(
    content: RecordDict, size: int, round_number: int, plan_digest: str
) -> tuple[AdapterUpdate, dict[str, float]]:
    """Read an update of `size` numbers for the round and plan that were asked for.

    Raises:
        FederationError: on another round, plan, length or dtype, a number that is not finite, or
            a metric outside ALLOWED_METRICS.
    """
    run = _record(content, "run", ConfigRecord)
    _expect("round", _value(run, "round", int), round_number)
    _expect("plan_digest", _value(run, "plan_digest", str), plan_digest)
    if isinstance(content.get("update"), ConfigRecord):
        sent = _record(content, "update", ConfigRecord)
        if set(sent) != {"vector"}:
            raise FederationError("Record update must hold vector alone.", field="update")
        vector = unpack_vector(_value(sent, "vector", bytes), size, "vector")
    else:
        vector = only_array(content, "update", "vector", np.float32, shape=(size,))
    metrics = _record(content, "metrics", MetricRecord)
    if not ALLOWED_METRICS.issuperset(metrics):
        raise FederationError("A node sent a metric that was not asked for.", field="metrics")
    values: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(value, float) or not math.isfinite(value):
            raise FederationError("A metric is not a finite number.", field="metrics")
        values[name] = value
    return AdapterUpdate(vector, round_number, plan_digest), values


# ------------------------------------------------------------------- errors
def public_reason(error: Exception) -> str:
    """Return what may leave a node about `error`: its code and field, never its text.

    A field that is not a plain lower-case word is left out, in case data found its way there.
    """
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "disk:full"
    if not isinstance(error, FedtailError):
        return INTERNAL
    if error.field and not _PUBLIC_FIELD.fullmatch(error.field):
        return error.code
    return error.public()


def error_reply(error: Exception) -> Error:
    """Return the error a node sends instead of a reply: `public_reason` and nothing else."""
    return Error(code=ERROR_CODE, reason=public_reason(error))


def error_reason(error: Error) -> str:
    """Return our own nodes' code and field, if they are known; else only Flower's number.

    Flower sends the text of an exception that it catches itself, so that text is not read. A node
    that makes a number up is told from Flower's own, which are below ours: it counts as 0, unknown.
    """
    if error.code != ERROR_CODE:
        return f"flower:{error.code if 0 < error.code < ERROR_CODE else 0}"
    return known_reason(error.reason or "")


# ----------------------------------------------------------------- checking
def _expect(field: str, found: int | str, expected: int | str) -> None:
    if found != expected:
        raise FederationError(
            f"The message's {field} is not the one its reader holds.", field=field
        )


def _record(content: RecordDict, name: str, kind: type[Record]) -> Record:
    record = content.get(name)
    if not isinstance(record, kind):
        raise FederationError(f"The message has no {kind.__name__} {name}.", field=name)
    return record


def _value(record: ConfigRecord, name: str, kind: type[Value]) -> Value:
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FederationError(f"The message has no {kind.__name__} {name}.", field=name)
    return value


def _fact(facts: ConfigRecord, name: str) -> str:
    value = _value(facts, name, str)
    if len(value) > MOST_FACT or not value.isprintable():
        raise FederationError(
            f"A node's {name} has more than {MOST_FACT} characters, or some that do not print.",
            field=name,
        )
    return value


Number = TypeVar("Number", np.float32, np.uint64)


def only_array(
    content: RecordDict,
    record_name: str,
    name: str,
    dtype: type[Number],
    *,
    shape: tuple[int] | None = None,
    most: int = 0,
) -> NDArray[Number]:
    """Return the one array [k] of a record: of `shape`, or with at most `most` numbers."""
    record = _record(content, record_name, ArrayRecord)
    if set(record) != {name}:
        raise FederationError(f"Record {record_name} must hold {name} alone.", field=record_name)
    return unpack_array(record[name], dtype, name, shape=shape, most=most)
