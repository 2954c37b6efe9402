"""Publish what a simulated federation learnt, with the operator's own writer of releases."""

import math
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from common.audit.layout import JOURNAL
from common.identity.signing_key import SigningKey
from common.privacy.ledger.journal import read_journal
from common.release.manifest import Manifest, MeasuredOn, MetricsRecord
from common.release.statement import MerchantPrivacy, Statement
from common.settings.run import RunSettings
from server.releases.publish import ReleaseDraft, free_moment, make_statement, write_release
from simulations.data.shop import Shop
from simulations.federation.runner import FinishedRun
from simulations.pipeline.audit_files import export_evidence

KEY_FILE = "operator.key"
PUBLIC_KEY_FILE = "operator.pub"
RELEASE = "release"
PUBLISHED = ("own_alone", "frozen_text", "fused_frozen", "adapter", "fused")


def operator_key(folder: Path, kept: Path | None = None) -> SigningKey:
    """Return the simulated operator's key, made on first use; its public half goes to `folder`.

    The key lies in `kept`, where a refresh finds that of the run it goes on with.
    """
    path = (kept or folder) / KEY_FILE
    key = SigningKey.load(path) if path.exists() else SigningKey.create(path)
    key.public.save(folder / PUBLIC_KEY_FILE)
    return key


def run_statement(
    folder: Path,
    run: FinishedRun,
    settings: RunSettings,
    shops: Sequence[Shop],
    privacy: Mapping[str, MerchantPrivacy],
    *,
    sizes: Literal["declared", "counted"] = "counted",
) -> Statement:
    """Export the run's journal and ledgers for an auditor, and return the statement about them.

    Raises:
        ReleaseError: if the audit of a merchant disproves its claim.
    """
    evidence = export_evidence(folder, run, shops)
    own = {one.run_id for one in evidence.journal if one.plan_digest == run.plan.digest}
    return make_statement(
        run.plan,
        settings,
        {name: privacy[name] for name in evidence.ledgers},
        evidence.ledgers,
        evidence.journal,
        run_ids=run.run_ids or own,
        sizes=sizes,
    )


def publish(
    folder: Path,
    run: FinishedRun,
    settings: RunSettings,
    shops: Sequence[Shop],
    statement: Statement,
    *,
    metrics: MetricsRecord,
    code_version: str,
    more_files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write the signed release folder under `folder`, in the place of an older one.

    `more_files` are put into it and signed with the rest, by name.

    Raises:
        ReleaseError: if the parts do not fit each other. Nothing is written then.
    """
    draft = ReleaseDraft(
        adapter=run.adapter,
        basis=run.basis,
        settings=settings,
        statement=statement,
        audits=run.audits,
        journal=read_journal((folder / JOURNAL).read_bytes()),
        catalogues={shop.name: shop.data.catalogue.digest for shop in shops},
        metrics=metrics,
        code_version=code_version,
        more_files=more_files or {},
        season=run.season,
        canary_sums=run.canary_sums,
    )
    now = free_moment(datetime.now(UTC), run.versions)
    kept = None if run.federation is None else run.federation.parent
    return write_release(folder / RELEASE, draft, now, operator_key(folder, kept), replace=True)


def told_metrics(
    measured_on: MeasuredOn,
    data_name: str,
    metrics: Mapping[str, Mapping[str, float | None]],
) -> MetricsRecord:
    """Return what a release tells of how good it is.

    Args:
        measured_on: Public or made-up shoppers; `nothing` where the shoppers are a shop's own.
            Exact figures of theirs are protected by no noise, so none of them is told.
        data_name: The data set's.
        metrics: Of the test shoppers, by model.
    """
    if measured_on == "nothing":
        return MetricsRecord(measured_on=measured_on, data="not to be told", values={})
    values = {name: _known(metrics[name]) for name in PUBLISHED if name in metrics}
    return MetricsRecord(measured_on=measured_on, data=data_name, values=values)


def withdraw(folder: Path) -> None:
    """Remove the release that an earlier run left under `folder`: this one's was refused."""
    shutil.rmtree(folder / RELEASE, ignore_errors=True)


def _known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return metrics with None where there is no value: no shopper of the test had a cold item."""
    return {
        name: None if value is None or math.isnan(value) else value
        for name, value in values.items()
    }
