"""Revealed canaries to and from Flower's records. They are the only thing an audit sends."""

from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError, PrivacyError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.wire.messages import Prepared
from common.wire.totality import total

AUDIT = "query.audit"


def encode_audit_request(plan_digest: str) -> RecordDict:
    """Return a request to open the canaries of the run under the named plan."""
    return RecordDict({"run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_audit_request(content: RecordDict, plan_digest: str) -> None:
    """Check that the request names the plan the node holds.

    Raises:
        FederationError: if it does not.
    """
    run = content.get("run")
    if not isinstance(run, ConfigRecord) or run.get("plan_digest") != plan_digest:
        raise FederationError("The message names another plan.", field="plan_digest")


def encode_audit(record: CanaryRecord | None, plan_digest: str) -> RecordDict:
    """Return the records of revealed canaries; None is a run without any.

    Raises:
        FederationError: if they are not revealed: a node's secret would leave.
    """
    run = ConfigRecord({"plan_digest": plan_digest})
    if record is not None:
        if not record.revealed:
            raise FederationError("The canaries are not revealed.", field="canaries")
        run["canaries"] = record.to_bytes()
    return RecordDict({"run": run})


@total
def decode_audit(content: RecordDict, prepared: Prepared, plan: PrivacyPlan) -> CanaryRecord:
    """Read a node's revealed canaries.

    Raises:
        FederationError: on another plan or merchant, a record that is not revealed or not readable,
            or one that is not what the node committed to when it was prepared.
    """
    decode_audit_request(content, plan.digest)
    canaries = content["run"].get("canaries")
    if not isinstance(canaries, bytes):
        raise FederationError("The node revealed no canaries.", field="canaries")
    try:
        record = CanaryRecord.from_bytes(canaries)
    except PrivacyError as error:
        raise FederationError("The canaries are not readable.", field="canaries") from error
    fits = (
        record.revealed and record.plan == plan.to_json() and record.merchant == prepared.merchant
    )
    if not fits or record.commitment != prepared.canaries_commitment:
        raise FederationError("The canaries are not what was committed to.", field="canaries")
    return record
