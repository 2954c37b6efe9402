"""`fedtail simulate --refresh-of`: the season of an earlier simulation, and nothing else, anew."""

import json

import pytest

from client.privacy.budget import LEDGER_FILE, open_ledger
from client.shop.dataset import save_merchant_data
from common.audit.layout import PUBLIC_KEY
from common.errors import InputError, SettingsError
from common.identity.signing_key import PublicKey
from common.release.parent import differences
from common.release.verify import verify_release
from simulations.federation.refresh import POINTER
from simulations.results.schema import load_results
from tests.support.shops import command, make_shop, small_options

FIRST_END = "1970-09-01"


@pytest.fixture(scope="module")
def earlier(tiny_bert, tmp_path_factory):
    """A small simulation whose season ended before the test began."""
    out = tmp_path_factory.mktemp("refresh") / "earlier"
    save_merchant_data(make_shop("Corner shop", items=50, shoppers=60), out.parent / "shop")
    options = seasonal(small_options(out, tiny_bert), FIRST_END)
    done = command(options, out.parent / "cache")
    assert done.exception is None, done.output
    return out


def seasonal(options, ends=None):
    """With a season, which small simulations have not."""
    kept = [one for one in options if one != "season_share=0"]
    kept.pop()  # the `--set` before it, which is the last
    return [*kept, *(["--set", f"season_ends={ends}"] if ends else [])]


def charged(out):
    found = {}
    for place in sorted((out / "merchants").glob("0*")):
        entries = open_ledger(place / "node" / LEDGER_FILE, place.name).entries()
        found[place.name] = [one.kind for one in entries if one.event]
    return found


@pytest.mark.slow
def test_a_refresh_is_a_release_with_the_same_adapter_and_audits(earlier, tiny_bert, tmp_path):
    """On the merchants' own ledgers, with figures on the same test as before."""
    before = charged(earlier)
    out = earlier.parent / "again"
    options = seasonal(small_options(out, tiny_bert))  # as they were, but for the season's end
    asked = [*options, "--refresh-of", str(earlier), "--epsilon", "0.4"]
    done = command(asked, out.parent / "cache")
    assert done.exception is None, done.output
    key = PublicKey.load(earlier / PUBLIC_KEY)
    new, old = (verify_release(one / "release", key) for one in (out, earlier))
    assert differences(new, old) == {}
    assert new.manifest.parent == old.manifest.digest
    assert new.season.ends > old.season.ends
    assert charged(earlier) == {name: [*kinds, "season"] for name, kinds in before.items()}
    results, first = (load_results(one / "results.json") for one in (out, earlier))
    assert not results.rounds
    assert results.metrics["adapter"] == first.metrics["adapter"]  # it is the same, on the same
    assert results.privacy.season.epsilon == pytest.approx(0.4, abs=1e-3)
    audit = command(["audit", "run", str(out), "--key", str(earlier / PUBLIC_KEY)], tmp_path)
    assert audit.exit_code == 0, audit.output
    assert "trained nothing" in (out / "report.html").read_text()
    last = json.loads((out / "release" / "manifest.json").read_text())
    done = command(asked, out.parent / "cache")  # the same again: it is done
    assert done.exception is None, done.output
    assert charged(earlier) == {name: [*kinds, "season"] for name, kinds in before.items()}
    again = json.loads((out / "release" / "manifest.json").read_text())
    assert again["files"]["season.safetensors"] == last["files"]["season.safetensors"]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ([], "epsilon"),
        (["--epsilon", "0.3", "--set", "rank=5"], "rank"),
        (["--epsilon", "0.3", "--merchants", "3"], "merchants"),
        (["--epsilon", "0.3", "--rounds", "4"], "rounds"),
    ],
)
def test_what_a_refresh_cannot_be_is_said_and_nothing_is_charged(
    simulated, tiny_bert, tmp_path, more, field
):
    before, data = charged(simulated), simulated.parent / "shop"
    options = small_options(tmp_path / "out", tiny_bert, data=data)
    done = command([*options, "--refresh-of", str(simulated), *more], simulated.parent / "cache")
    assert isinstance(done.exception, InputError | SettingsError), done.output
    assert done.exception.field == field
    assert charged(simulated) == before


def test_a_refresh_does_not_take_the_place_of_what_it_goes_on_with(simulated, tiny_bert, tmp_path):
    """With --overwrite the run would be emptied, and with it the ledgers, before it is read."""
    before = sorted(simulated.rglob("*"))
    again = tmp_path / "again"
    again.mkdir()
    (again / POINTER).write_text(json.dumps(str(simulated)))
    for run in (simulated, again):
        options = small_options(simulated, tiny_bert, data=simulated.parent / "shop")
        asked = ["--refresh-of", str(run), "--epsilon", "0.3", "--overwrite"]
        done = command([*options, *asked], simulated.parent / "cache")
        assert isinstance(done.exception, InputError), done.output
        assert done.exception.field == "out"
    assert sorted(simulated.rglob("*")) == before


def test_a_run_without_a_release_has_no_season_to_take_anew(tiny_bert, tmp_path):
    simulated = tmp_path / "nothing"
    simulated.mkdir()
    save_merchant_data(make_shop("Corner shop", items=50, shoppers=60), tmp_path / "shop")
    options = [*small_options(tmp_path / "out", tiny_bert), "--refresh-of", str(simulated)]
    done = command([*options, "--epsilon", "0.3"], tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert done.exception.field == "refresh_of"
