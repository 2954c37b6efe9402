"""Each thing that a refresh has of its parent is compared by itself, and named where it differs."""

from types import MappingProxyType

import pytest

from common.errors import ReleaseError
from common.release.build import make_manifest
from common.release.manifest import ADAPTER_CONFIG_FILE, ADAPTER_FILE, BASIS_FILE
from common.release.parent import check_kept, check_same_adapter, differences
from common.release.verify import _SEAL, VerifiedRelease
from common.settings.lora_targets import PROJECTION_FILE
from common.settings.refresh import OWN
from tests.common.release.test_manifest import FILES, KEY, claims

ADAPTER = claims().adapter.model_dump()
OTHER = "ab" * 32


def release(files=None, **changes):
    content = {**FILES, PROJECTION_FILE: b"projection", **(files or {})}
    manifest = make_manifest(content, claims(**changes), KEY)
    return VerifiedRelease(manifest, MappingProxyType(content), _SEAL)


def with_adapter(**changes):
    return release(adapter={**ADAPTER, **changes})


def with_settings(**changes):
    return with_adapter(settings={**ADAPTER["settings"], **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "lora"),
        ("lora_targets", ["encoder.layer.4.output.dense"]),
        ("rank", 5),
        ("alpha", 5.0),
        ("trained_numbers", 1537),
        ("digest", OTHER),
    ],
)
def test_what_the_manifest_says_of_the_adapter(field, value):
    assert differences(with_adapter(**{field: value}), release()).keys() == {f"adapter.{field}"}


@pytest.mark.parametrize("file", [ADAPTER_FILE, ADAPTER_CONFIG_FILE, PROJECTION_FILE, BASIS_FILE])
def test_each_file_of_the_model(file):
    assert differences(release({file: b"another"}), release()).keys() == {file}


@pytest.mark.parametrize("changes", [{"name": "another"}, {"weights_sha256": OTHER}])
def test_the_base_model(changes):
    base_model = {**claims().base_model.model_dump(), **changes}
    child = release(base_model=base_model)
    assert differences(child, release()).keys() == {"base_model"}
    with pytest.raises(ReleaseError, match="its base_model is not") as caught:
        check_same_adapter(child, release())
    assert caught.value.field == "base_model"


def test_a_setting_that_one_has_and_the_other_lacks_is_another_even_where_it_is_null():
    child = with_settings(odd=None)
    for pair in ((child, release()), (release(), child)):
        assert differences(*pair).keys() == {"adapter.settings.odd"}
    with pytest.raises(ReleaseError) as caught:
        check_kept(child.manifest.adapter.settings, release())
    assert caught.value.field == "odd"


def test_a_refresh_may_have_settings_of_its_own():
    child = with_settings(**dict.fromkeys(OWN, "another"))
    assert differences(child, release()) == {}
    check_same_adapter(child, release())
