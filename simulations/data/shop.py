"""One simulated merchant with its past and its future."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from client.ranking.baselines import EASE_STRENGTHS, EaseModel, choose_ease, fit_ease
from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from client.shop.splitting import Cases, Split, evaluation_cases, join, split_interactions


@dataclass(frozen=True, eq=False)
class Shop:
    """One simulated merchant with its past and its future.

    Attributes:
        name: The merchant's.
        data: Catalogue and all interactions.
        split: Training, validation and test period.
    """

    name: str
    data: MerchantData
    split: Split

    @classmethod
    def of(cls, data: MerchantData) -> "Shop":
        """Split a merchant's data by its rule."""
        return cls(data.name, data, split_interactions(data.interactions, data.split_rule))

    @cached_property
    def past(self) -> Interactions:
        """The training and validation period, with the ids of shoppers who only come later."""
        return join(self.split.train, self.split.valid)

    @cached_property
    def node_data(self) -> Interactions:
        """The past as a node holds it: of shoppers who only come later it has not even the ids."""
        return self.past.only_shoppers(np.unique(self.past.shopper))

    @cached_property
    def validation_cases(self) -> Cases:
        """Who bought something new in the validation period."""
        return evaluation_cases(self.split.train, self.split.valid)

    @cached_property
    def test_cases(self) -> Cases:
        """Who bought something new in the test period."""
        return evaluation_cases(self.past, self.split.test)

    def fit_ease(self) -> EaseModel:
        """Return EASE on all of the past, as strong as suited the validation period.

        It is not kept: its matrix of all pairs is the largest thing of a shop.
        """
        choice = choose_ease(self.split.train.matrix(), self.validation_cases, EASE_STRENGTHS)
        return fit_ease(self.past.matrix(), choice.model.l2)
