import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import client.recommending.model_history
import client.recommending.shop_model
from client.recommending.model_history import (
    MOST_KEPT,
    keep_shop_model,
    kept_models,
    model_named,
    release_of,
    roll_back,
)
from client.recommending.shop_model import load_shop_model, read_manifest, save_shop_model
from common.errors import InputError, ReleaseError
from common.identity.signing_key import PublicKey
from tests.support.served import SOURCE, made_model

MODELS = [made_model(seed=seed, items=8, shoppers=4, width=4) for seed in range(8)]


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def serving(folder):
    return read_manifest(folder)[1]


def check(folder):
    """What holds at any moment: what serves is whole and kept, and nothing lies about."""
    models = kept_models(folder)
    assert 1 <= len(models) <= MOST_KEPT
    assert [one.digest for one in models if one.serves] == [serving(folder)]
    for one in models:
        assert (
            load_shop_model(folder, manifest=model_named(folder, one.digest)).digest == one.digest
        )
    names = {name for one in models for name in files_of(folder, one.digest)}
    lying = {path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".jsonl"}}
    assert lying <= names


def files_of(folder, digest):
    manifest = client.recommending.model_history._read_kept(folder / model_named(folder, digest))[0]
    return [one.name for one in manifest.files.values()]


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.lists(st.integers(0, len(MODELS) + MOST_KEPT - 1), min_size=1, max_size=8))
def test_whatever_is_fitted_and_undone_one_whole_model_serves(tmp_path_factory, acts):
    base = tmp_path_factory.mktemp("models")
    folder, release = base / "model", base / "release"
    release.mkdir()
    keep_shop_model(MODELS[0], folder, release)
    for act in acts:
        if act < len(MODELS):
            wanted = keep_shop_model(MODELS[act], folder, release)
        else:
            known = kept_models(folder)
            wanted = roll_back(folder, known[(act - len(MODELS)) % len(known)].digest).digest
        assert serving(folder) == wanted
        check(folder)


def test_going_back_brings_the_very_model_back(tmp_path, release):
    first = keep_shop_model(MODELS[0], tmp_path / "model", release)
    second = keep_shop_model(MODELS[1], tmp_path / "model", release)
    assert serving(tmp_path / "model") == second
    back = roll_back(tmp_path / "model", first)
    assert back.serves
    assert back.source == SOURCE
    assert load_shop_model(tmp_path / "model").digest == first
    assert {one.digest for one in kept_models(tmp_path / "model")} == {first, second}


def test_the_oldest_goes_and_the_one_that_serves_never(tmp_path, release):
    folder = tmp_path / "model"
    digests = []
    for place, model in enumerate(MODELS):
        digests.append(keep_shop_model(model, folder, release))
        os.utime(folder / model_named(folder, digests[-1]), (place, place))
    assert [one.digest for one in kept_models(folder)] == digests[::-1][:MOST_KEPT]
    oldest = kept_models(folder)[-1].digest
    roll_back(folder, oldest)
    keep_shop_model(MODELS[0], folder, release)
    check(folder)


def test_all_earlier_models_can_be_forgotten_with_their_purchases(tmp_path, release):
    folder = tmp_path / "model"
    for model in MODELS[:3]:
        keep_shop_model(model, folder, release)
    last = keep_shop_model(MODELS[3], folder, release, most=1)
    assert [one.digest for one in kept_models(folder)] == [last]
    assert len(list(folder.glob("arrays-*"))) == len(list(folder.glob("shoppers-*"))) == 1
    with pytest.raises(InputError, match="cannot be kept"):
        keep_shop_model(MODELS[3], folder, release, most=0)


def test_an_old_model_that_is_fitted_again_serves_and_stays(tmp_path, release):
    folder = tmp_path / "model"
    for place, model in enumerate(MODELS[:3]):
        digest = keep_shop_model(model, folder, release)
        os.utime(folder / model_named(folder, digest), (place, place))
    again = keep_shop_model(MODELS[0], folder, release, most=1)
    assert serving(folder) == again
    assert [one.digest for one in kept_models(folder)] == [again]
    check(folder)


def test_a_folder_of_an_earlier_version_keeps_its_model(tmp_path, release):
    first = save_shop_model(MODELS[0], tmp_path / "model")
    keep_shop_model(MODELS[1], tmp_path / "model", release)
    assert roll_back(tmp_path / "model", first).digest == first
    assert load_shop_model(tmp_path / "model").digest == first


@pytest.mark.parametrize("digest", ["", "0" * 64, "../manifest", "a" * 10_000])
def test_what_is_not_kept_cannot_be_gone_back_to(tmp_path, release, digest):
    kept = keep_shop_model(MODELS[0], tmp_path / "model", release)
    with pytest.raises(InputError, match="kept"):
        roll_back(tmp_path / "model", digest)
    assert serving(tmp_path / "model") == kept


def test_an_altered_kept_model_is_refused_and_the_other_goes_on(tmp_path, release):
    folder = tmp_path / "model"
    first = keep_shop_model(MODELS[0], folder, release)
    second = keep_shop_model(MODELS[1], folder, release)
    path = folder / next(name for name in files_of(folder, first) if name.startswith("arrays"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="altered"):
        roll_back(folder, first)
    assert serving(folder) == second


def test_a_fit_that_is_stopped_leaves_what_serves_and_what_is_kept(tmp_path, release, monkeypatch):
    folder = tmp_path / "model"
    keep_shop_model(MODELS[0], folder, release)
    kept = keep_shop_model(MODELS[1], folder, release)

    def stop(*_, **__):
        raise OSError(28, os.strerror(28))

    places = [(client.recommending.shop_model, name) for name in ("write_atomic", "write_arrays")]
    for module, name in [*places, (client.recommending.model_history, "save_shop_model")]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(OSError, match="No space"):
                keep_shop_model(MODELS[2], folder, release)
        assert serving(folder) == kept
        assert len(kept_models(folder)) == 2
    keep_shop_model(MODELS[2], folder, release)
    check(folder)  # and what the stopped ones left lying is gone


def test_fits_and_going_back_at_once_leave_one_whole_model(tmp_path, release):
    folder = tmp_path / "model"
    first = keep_shop_model(MODELS[0], folder, release)
    failures = []

    def fit():
        for model in MODELS[1:4]:
            keep_shop_model(model, folder, release)

    def undo():
        for _ in range(20):
            try:
                roll_back(folder, first)
            except InputError as error:
                failures.append(error)

    threads = [threading.Thread(target=one) for one in (fit, undo)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(folder)
    assert failures == []  # at most five were ever kept


def test_a_model_serves_only_under_its_own_verified_release(simulated, tmp_path):
    key = PublicKey.load(simulated / "operator.pub")
    release, folder = simulated / "release", tmp_path / "model"
    digest = client.recommending.model_history.verify_release(release, key).manifest.digest
    own = SOURCE.model_copy(update={"release_digest": digest})
    assert release_of(own, folder, release, key).manifest.digest == digest
    with pytest.raises(ReleaseError, match="another digest"):
        release_of(SOURCE, folder, release, key)
    # A kept release that is not the operator's is no way around.
    keep_shop_model(MODELS[0], folder, release)
    assert (folder / f"release-{'a' * 16}").is_dir()
    with pytest.raises(ReleaseError):
        release_of(SOURCE, folder, release, key)
    model = MODELS[1]
    kept = type(model)(**{**vars(model), "source": own})
    keep_shop_model(kept, folder, release)
    assert release_of(own, folder, folder / f"release-{digest[:16]}", key)
