"""Judge a finished run on public shoppers before its release is signed, on the operator's server.

The file has one shopper a line, whose purchases the operator declares public:

    {"history": ["text of an item", ...], "bought": ["text of an item", ...]}

A text is the one in the run's public catalogue; others are passed over. It must hold no shopper of
a merchant: a gate that reads those would tell of them without being paid for.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import csr_matrix

from common.adapter import AdapterState
from common.catalogue import Catalogue, popularity_buckets, read_catalogue
from common.encoder.catalogue_encoder import encode_catalogue
from common.encoder.public_basis import PublicBasis
from common.errors import FederationError, InputError, ReleaseError
from common.evaluation.scorecard import evaluate_scores
from common.settings.run import RunSettings
from server.releases.decision import keep_decision
from server.releases.gate import GateDecision, decide_release
from server.run.checkpoint import read_checkpoint
from server.run.files import CATALOGUE_FILE
from server.run.outcome import read_outcome

_SMALL = 1e-12  # of a history's length: whoever has none scores 0


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    history: list[str]
    bought: list[str]


@dataclass(frozen=True, eq=False)
class PublicShoppers:
    """Public shoppers on one catalogue.

    Attributes:
        seen: CSR [cases, items]: how often each item is in a history.
        bought: CSR [cases, items]: 1 for what they bought afterwards and had not before.
    """

    seen: csr_matrix
    bought: csr_matrix

    @classmethod
    def load(cls, path: Path, catalogue: Catalogue) -> "PublicShoppers":
        """Read a file of public shoppers; who bought nothing new of the catalogue is left out.

        Raises:
            InputError: if it cannot be read, or a line is something else.
        """
        places = {item.text: place for place, item in enumerate(catalogue.items)}
        rows: list[tuple[list[int], list[int]]] = []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} cannot be read.", field="public_holdout") from error
        for number, line in enumerate(lines, 1):
            try:
                read = _Line.model_validate_json(line)
            except ValidationError:
                raise InputError(
                    f"{path.name}: line {number} is not a shopper: history and bought, each a "
                    "list of texts.",
                    field="public_holdout",
                ) from None
            history = [places[text] for text in read.history if text in places]
            new = {places[text] for text in read.bought if text in places} - set(history)
            if history and new:
                rows.append((history, sorted(new)))
        width = len(catalogue)
        return cls(
            _counts([one for one, _ in rows], width), _counts([one for _, one in rows], width)
        )


def check_release(run: Path, settings: RunSettings, holdout: Path, cache: Path) -> GateDecision:
    """Judge a finished run and keep the decision in its folder.

    Args:
        run: The run's folder.
        settings: The run's.
        holdout: The file of public shoppers.
        cache: Where encodings of public text are kept.

    Raises:
        FederationError: if the run has rounds left.
        InputError: if the file, the checkpoint or the outcome cannot be read.
        ReleaseError: if the gate is not passed; nothing may be signed then.
    """
    checkpoint, catalogue = read_checkpoint(run), read_catalogue(run / CATALOGUE_FILE)
    if checkpoint is None or checkpoint.round_number < settings.plan().rounds:
        raise FederationError("The run has rounds left.", field="rounds")
    basis = PublicBasis.from_bytes(read_outcome(run).basis)
    shoppers = PublicShoppers.load(holdout, catalogue)
    decision = judge(shoppers, catalogue, basis, checkpoint.adapter, settings, cache)
    keep_decision(run, passed=decision.passed, cases=decision.cases, reason=decision.reason)
    if not decision.passed:
        raise ReleaseError(f"No release: the gate is not passed: {decision.reason}.", field="gate")
    return decision


def judge(  # noqa: PLR0917 - what a release is made of, in its order
    shoppers: PublicShoppers,
    catalogue: Catalogue,
    basis: PublicBasis,
    adapter: AdapterState,
    settings: RunSettings,
    cache: Path,
) -> GateDecision:
    """Compare an adapter with the frozen encoder on public shoppers, histories not decayed."""
    encoded = encode_catalogue(catalogue, basis, settings, cache)
    frozen = encoded.vectors
    encoded.encoder.load_adapter(adapter)
    adapted = encoded.tokens.vectors(encoded.encoder)
    buckets = popularity_buckets(np.asarray(shoppers.seen.sum(axis=0)).ravel().astype(np.int64))

    def scores(vectors: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
        pooled = shoppers.seen[rows] @ vectors.astype(np.float64)
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        found: NDArray[np.float32] = (pooled / np.maximum(lengths, _SMALL)).astype(np.float32)
        return found @ frozen.T

    release, without = (
        evaluate_scores(partial(scores, vectors), shoppers.seen, shoppers.bought, buckets)
        for vectors in (adapted, frozen)
    )
    return decide_release(release.per_shopper, without.per_shopper, seed=settings.seed)


def _counts(rows: list[list[int]], width: int) -> csr_matrix:
    lengths = np.cumsum([0, *(len(row) for row in rows)])
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    matrix = csr_matrix((np.ones(len(items)), items, lengths), shape=(len(rows), width))
    matrix.sum_duplicates()
    return matrix
