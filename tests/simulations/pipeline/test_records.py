import json

from client.recommending.gain_by_size import GAIN_FILE, read_gain_by_size
from simulations.evaluation.by_size import gains_by_size
from simulations.pipeline.records import Beside
from tests.simulations.evaluation.test_by_size import scorecard


def beside():
    scorecards = {
        "own_alone": [scorecard([0.1, 0.3]), scorecard([])],
        "fused": [scorecard([0.4, 0.4]), scorecard([])],
    }
    return Beside(by_size=gains_by_size(scorecards, [40, 400], seed=0))


def test_a_release_tells_the_gain_by_size_of_public_and_made_up_shoppers_alone():
    assert GAIN_FILE not in beside().files("nothing")
    assert GAIN_FILE not in Beside().files("public")
    for measured_on in ("public", "simulated"):
        found = read_gain_by_size(beside().files(measured_on))
        assert found.measured_on == measured_on
        small, large = found.sizes
        assert (small.size, small.alone, round(small.ndcg.mean, 6)) == (30, "EASE with titles", 0.2)
        assert (large.cases, large.ndcg.mean) == (0, None)
        json.loads(beside().files(measured_on)[GAIN_FILE])
