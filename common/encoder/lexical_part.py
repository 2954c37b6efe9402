"""What an item's words say by themselves, beside what BERT makes of their order.

BERT's last layer mixes the words of a title; two titles that share a rare word may end up apart.
The plain vectors that BERT starts from keep what a word is, and no context changes them.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag, normalize

from common.encoder.token_states import TokenStates
from common.encoder.whitening import inverse_root
from common.errors import InputError


@dataclass(frozen=True, eq=False)
class LexicalPart:
    """How the lexical part of an item's vector is made; fitted on public text.

    Attributes:
        mean: float32 [d], mean of the public texts' word means.
        whitening: float32 [d, d], symmetric.
        weight: Length of the part where BERT's has length 1; above 0.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    weight: float

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """Return mean, whitening and weight as float32 arrays, the last of one number."""
        return self.mean, self.whitening, np.array([self.weight], np.float32)

    @classmethod
    def from_arrays(
        cls, mean: NDArray[np.float32], whitening: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> Self:
        """Return the part that `arrays` are of.

        Raises:
            InputError: if shapes do not fit, or the weight is not above 0.
        """
        if mean.ndim != 1 or whitening.shape != (len(mean), len(mean)):
            raise InputError("The words' mean and whitening do not fit.", field="words.mean")
        if weight.shape != (1,) or not weight[0] > 0:
            raise InputError("The words' weight must be one number above 0.", field="words.weight")
        return cls(mean, whitening, float(weight[0]))

    def vectors(
        self,
        table: NDArray[np.float32],
        token_states: TokenStates,
        token_weight: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return the part of each item, of length `weight`: float32 [items, d].

        Args:
            table: float32 [vocabulary, d], the base model's word vectors.
            token_states: Whose tokens are the items'.
            token_weight: float32 [tokens], of each token in its text's mean.
        """
        centred = _word_means(table, token_states, token_weight) - self.mean
        # In float64, so that what the number of threads rounds otherwise is rounded away: a node's
        # vectors are the same on one core and on many.
        product = centred.astype(np.float64) @ self.whitening.astype(np.float64)
        whitened = torch.from_numpy(product.astype(np.float32))
        parts: NDArray[np.float32] = (normalize(whitened, dim=1) * self.weight).numpy()
        return parts


def fit_lexical_part(
    table: NDArray[np.float32],
    token_states: TokenStates,
    token_weight: NDArray[np.float32],
    *,
    whitening_power: float,
    lexical_weight: float,
) -> LexicalPart | None:
    """Fit mean and whitening on public text; None where `lexical_weight` is 0.

    Args:
        table: float32 [vocabulary, d], the base model's word vectors.
        token_states: The public catalogue's.
        token_weight: float32 [tokens], as in `LexicalPart.vectors`.
        whitening_power: As in `fit_basis`.
        lexical_weight: Length of the part beside BERT's.
    """
    if lexical_weight == 0:
        return None
    means = torch.from_numpy(_word_means(table, token_states, token_weight))
    whitening = inverse_root(torch.cov(means.T.double(), correction=0), whitening_power)
    # As it comes back from a file, so that vectors are the same to the last bit.
    return LexicalPart(means.mean(dim=0).numpy(), whitening, float(np.float32(lexical_weight)))


def _word_means(
    table: NDArray[np.float32], token_states: TokenStates, token_weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the weighted mean of each item's word vectors: float32 [items, d]."""
    total = np.add.reduceat(token_weight, token_states.offsets[:-1])
    share = token_weight / np.repeat(total, token_states.lengths)
    means: NDArray[np.float32] = embedding_bag(
        torch.from_numpy(token_states.ids),
        torch.from_numpy(table),
        torch.from_numpy(token_states.offsets[:-1].astype(np.int32)),
        mode="sum",
        per_sample_weights=torch.from_numpy(share),
    ).numpy()
    return means
