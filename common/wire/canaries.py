"""Opened canary lanes to and from Flower's records. They are the only thing an audit sends."""

from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError, PrivacyError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import LaneRecord
from common.wire.messages import Prepared

AUDIT = "query.audit"


def encode_audit_request(plan_digest: str) -> RecordDict:
    """Return a request to open the lanes of the run under the named plan."""
    return RecordDict({"run": ConfigRecord({"plan_digest": plan_digest})})


def decode_audit_request(content: RecordDict, plan_digest: str) -> None:
    """Check that the request names the plan the node holds.

    Raises:
        FederationError: if it does not.
    """
    run = content.get("run")
    if not isinstance(run, ConfigRecord) or run.get("plan_digest") != plan_digest:
        raise FederationError("The message names another plan.", field="plan_digest")


def encode_audit(record: LaneRecord | None, plan_digest: str) -> RecordDict:
    """Return the records of opened lanes; None is a run without any.

    Raises:
        FederationError: if they are not opened: a node's secret would leave.
    """
    run = ConfigRecord({"plan_digest": plan_digest})
    if record is not None:
        if not record.opened:
            raise FederationError("The lanes are not opened.", field="lanes")
        run["lanes"] = record.to_bytes()
    return RecordDict({"run": run})


def decode_audit(content: RecordDict, prepared: Prepared, plan: PrivacyPlan) -> LaneRecord:
    """Read a node's opened lanes.

    Raises:
        FederationError: on another plan or merchant, a record that is not opened or not readable,
            or one that is not what the node committed to when it was prepared.
    """
    decode_audit_request(content, plan.digest)
    lanes = content["run"].get("lanes")
    if not isinstance(lanes, bytes):
        raise FederationError("The node opened no lanes.", field="lanes")
    try:
        record = LaneRecord.from_bytes(lanes)
    except PrivacyError as error:
        raise FederationError("The lanes are not readable.", field="lanes") from error
    fits = record.opened and record.plan == plan.to_json() and record.merchant == prepared.merchant
    if not fits or record.commitment != prepared.lanes_commitment:
        raise FederationError("The lanes are not what was committed to.", field="lanes")
    return record
