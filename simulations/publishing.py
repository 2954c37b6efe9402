"""Sign what a simulated federation learnt: claims from its ledgers and results, then the folder."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.encoder.encoding import cached_base_model
from common.encoder.packaging import model_files
from common.privacy.lanes import pack_records
from common.privacy.statement import privacy_statement
from common.release.manifest import (
    LANES_FILE,
    STATEMENT_FILE,
    BaseModelRecord,
    Claims,
    Manifest,
    MerchantPrivacy,
    MetricsRecord,
)
from common.release.signing import SigningKey, build_release
from common.settings import RunSettings
from server.releases import adapter_record, privacy_record, version_at
from simulations.evaluation import Shop
from simulations.runner import FinishedRun

KEY_FILE = "operator.key"
PUBLIC_KEY_FILE = "operator.pub"
PUBLISHED = ("frozen_text", "adapter", "fused")


def operator_key(folder: Path) -> SigningKey:
    """Return the simulated operator's key, made on first use; its public half lies beside it."""
    path = folder / KEY_FILE
    key = SigningKey.load(path) if path.exists() else SigningKey.create(path)
    key.public.save(folder / PUBLIC_KEY_FILE)
    return key


def publish(
    folder: Path,
    run: FinishedRun,
    settings: RunSettings,
    shops: Sequence[Shop],
    privacy: Mapping[str, MerchantPrivacy],
    *,
    metrics: Mapping[str, Mapping[str, float | None]],
    data_name: str,
    code_version: str,
) -> Manifest:
    """Write the signed release folder under `folder`, in the place of an older one.

    Raises:
        ReleaseError: if the parts do not fit each other, or the audit of a merchant disproves
            its claim. Nothing is written then.
    """
    record = privacy_record(run.plan, privacy)
    model = cached_base_model(settings.base_model)
    statement = privacy_statement(run.plan, privacy, len(shops), settings.seeded_noise)
    files = model_files(run.adapter, run.basis, settings, model)
    if run.audits:
        files = {**files, LANES_FILE: pack_records(run.audits.values())}
    now = datetime.now(UTC)
    claims = Claims(
        version=version_at(now),
        created=now.isoformat(timespec="seconds"),
        base_model=BaseModelRecord(name=settings.base_model, weights_sha256=model.digest),
        catalogues={shop.name: shop.data.catalogue.digest for shop in shops},
        adapter=adapter_record(run.adapter, settings, model.depth),
        privacy=record,
        metrics=MetricsRecord(
            measured_on="simulated",
            data=data_name,
            values={name: _known(metrics[name]) for name in PUBLISHED if name in metrics},
        ),
        code_version=code_version,
    )
    return build_release(
        folder / "release",
        {**files, STATEMENT_FILE: statement.encode()},
        claims,
        operator_key(folder),
        replace=True,
    )


def _known(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return metrics with None where there is no value: no shopper of the test had a cold item."""
    return {
        name: None if value is None or math.isnan(value) else value
        for name, value in values.items()
    }
