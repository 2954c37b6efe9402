"""Results under the names of earlier schemas are read, and mean what they meant."""

import json

from simulations.results.earlier import RENAMED, RENAMED_VALUES, renamed
from simulations.results.schema import load_results
from tests.support.results_example import example_results

EARLIER = {new: old for old, new in RENAMED.items()}


def as_of_schema_1(value, name=""):
    """Write today's results under the first schema's names."""
    if isinstance(value, dict):
        names = {} if name == "merchants" else EARLIER
        return {names.get(key, key): as_of_schema_1(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [as_of_schema_1(one, name) for one in value]
    if name in {"model", "baseline"}:
        return EARLIER.get(value, value)
    old = {new: was for was, new in RENAMED_VALUES.get(name, {}).items()}
    return old.get(value, value) if isinstance(value, str) else value


def test_results_of_the_first_schema_are_read(tmp_path):
    today = example_results()
    fields = as_of_schema_1(json.loads(today.model_dump_json())) | {"schema_version": 1}
    assert "placement" in fields["privacy"]
    assert "gated_frozen" in fields["metrics"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(fields))
    assert load_results(path) == today


def test_a_merchant_may_have_any_name():
    fields = {"merchants": {"lanes": {"lanes": 512}}}
    assert renamed(fields) == {"merchants": {"lanes": {"canaries": 512}}}


def test_what_has_todays_names_stays():
    fields = {"settings": {"lora": "ffa-lora", "size_bracket": 4}, "differences": [{"model": "x"}]}
    assert renamed(fields) == fields
    assert renamed({"lora": "ffa", "model": "gated_frozen"}) == {
        "lora": "ffa-lora",
        "model": "fused_frozen",
    }
