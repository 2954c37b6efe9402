import pytest

from client.serving.feedback.online import Rate
from client.serving.page.rendering import Formats
from client.serving.page.texts import texts

F = Formats(texts("en"))


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0%"),
        (0.0123, "1.23%"),
        (0.1234, "12.3%"),
        (1, "100%"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_share_has_the_digits_that_matter(share, said):
    assert F.percent(share) == said


def test_numbers_have_separators_signs_and_dashes():
    assert F.count(1234567.4) == "1,234,567"
    assert F.signed(-0.5) == "−0.50"
    assert F.signed(0.5) == "+0.50"
    assert F.signed(None) == F.number(float("inf")) == "–"


def test_an_interval_is_that_of_the_rate():
    assert F.interval(Rate.of(5, 100)) == "2.2–11.2%"
    assert F.interval(Rate.of(1, 100)) == "0.18–5.45%"
    assert F.interval(Rate.of(0, 0)) == "–"
