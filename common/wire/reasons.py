"""The words by which one end tells the other what was wrong: a closed set, checked by the reader.

Whoever sends a word chooses it, and it goes on to logs, to the journal, which is public, and to
the labels of metrics. A pattern would let a sentence through in lower case, so a word is only kept
where this code could have said it itself.
"""

import dataclasses
from typing import Final

from common import errors
from common.privacy.accounting.plan import PrivacyPlan
from common.settings.run import RunSettings

INTERNAL: Final = "internal"  # whatever it was, nothing more is told

CODES: Final = frozenset(
    {one.code for one in vars(errors).values() if hasattr(one, "code")}
    | {INTERNAL, "disk", "evicted"}
)
_OTHER_FIELDS: Final = """
    absent adapter allow_seeded_noise app app_digests arrays base_model basis basis_digest body
    budget_days cache canaries catalogue catalogue_declared catalogue_digest certificate charge
    checkpoint clipped clock cohort contribution contributions count countersignature counts
    data dataset disk dp_models dropouts entries experiment expires facts federation file
    folder format full gradients hash head identity interactions item item_count item_id items
    journal key keys kind ledger length log_format margin max_basis_norm max_epsilon
    max_popularity_ratio max_run_epsilon members merchant message metrics min_cohort min_nodes
    min_noise_multiplier min_temperature name node_certificate node_key nodes number order
    phase plan plan_digest policy popularity possession prepare prior protected public_key
    reason receipt receipts refusal retired rollback roster round run schema sensitivity
    settings shares shop shoppers signature signer signing_key size spent split state survivors
    text text_keys threshold title token_weight unmask update update_subspace updates
    valid_from variance vector version views yes allow_season season min_spared_share setup
    sharing parent allow_refresh device
    transcript index asked framing
"""
FIELDS: Final = frozenset(
    {*RunSettings.model_fields, *(one.name for one in dataclasses.fields(PrivacyPlan))}
).union(_OTHER_FIELDS.split())


def known_reason(reason: str) -> str:
    """Return `code:field`, without a field that this code does not have; `internal` for no code."""
    code, _, field = reason.partition(":")
    if code not in CODES:
        return INTERNAL
    return f"{code}:{field}" if field in FIELDS else code
