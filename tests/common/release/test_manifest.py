"""The manifest: canonical, strict, and with file names that cannot leave the folder."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.release.build import make_manifest
from common.release.manifest import (
    REQUIRED_FILES,
    Claims,
    Manifest,
    check_file_names,
    parse_manifest,
)
from tests.support.statements import HEX, statement_fields

KEY = PublicKey(bytes(range(32)))
FILES = {name: name.encode() for name in REQUIRED_FILES}


def claims(**changes) -> Claims:
    fields = {
        "version": "2026.11.24",
        "created": "2026-11-24T10:30:00+00:00",
        "base_model": {"name": "all-MiniLM-L6-v2", "weights_sha256": HEX},
        "catalogues": {"all": HEX},
        "adapter": {
            "method": "ffa-lora",
            "lora_targets": ["encoder.layer.5.output.dense"],
            "rank": 4,
            "alpha": 4.0,
            "trained_numbers": 1536,
            "digest": HEX,
            "settings": {"decay": 0.65, "history": 100},
        },
        "privacy": statement_fields(),
        "metrics": {
            "measured_on": "simulated",
            "data": "marketplace, seed 0",
            "values": {"adapter": {"ndcg@10": 0.0981, "auc": None}},
        },
        "code_version": "fedtail 0.1.0",
    }
    return Claims.model_validate({**fields, **changes})


def test_a_manifest_reads_back_as_itself():
    manifest = make_manifest(FILES, claims(parent=HEX), KEY)
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert parse_manifest(manifest.to_bytes()).digest == manifest.digest


def test_canonical_bytes_do_not_depend_on_the_order_of_keys():
    one = make_manifest(FILES, claims(), KEY)
    other = make_manifest(dict(reversed(FILES.items())), claims(), KEY)
    assert one.to_bytes() == other.to_bytes()
    text = one.to_bytes().decode("ascii")
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(extra=1), "extra: Extra inputs"),
        (lambda d: d.pop("version"), "version: Field required"),
        (lambda d: d.pop("parent"), "not in canonical form"),
        (lambda d: d["adapter"].pop("rank"), "adapter.rank: Field required"),
        (lambda d: d["adapter"].update(colour="red"), "adapter.colour: Extra"),
        (lambda d: d["privacy"].pop("plan"), "privacy.plan: Field required"),
        (lambda d: d.update(version=1), "version: Input should be a valid string"),
        (lambda d: d.update(version="1.0-beta"), "version: String should match"),
        (lambda d: d.update(version="1.0\n"), "version: String should match"),
        (lambda d: d.update(created="2026-11-24T10:30:00"), "created: .*must carry UTC"),
        (lambda d: d.update(created="yesterday"), "created: "),
        (lambda d: d.update(parent="f00"), "parent: String should match"),
        (lambda d: d["adapter"].update(rank="4"), "adapter.rank: Input should be a valid integer"),
        (lambda d: d.update(format="other"), "not a fedtail release"),
        (lambda d: d.update(format_version=2), "has format_version 2; this fedtail reads 1"),
        (lambda d: d.pop("format_version"), "has format_version None"),
        (lambda d: d["files"].pop("STATEMENT.md"), "required file STATEMENT.md"),
        (lambda d: d["files"]["basis.safetensors"].update(size=-1), "size: Input should be"),
        (lambda d: d["files"]["basis.safetensors"].update(size=1 << 40), "size: Input should be"),
    ],
)
def test_a_manifest_of_other_fields_is_refused(change, message):
    document = json.loads(make_manifest(FILES, claims(), KEY).to_bytes())
    change(document)
    content = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ReleaseError, match=message) as caught:
        parse_manifest(content)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_manifest_at_all_is_refused(content):
    with pytest.raises(ReleaseError, match=r"manifest\.json"):
        parse_manifest(content)


def test_a_key_written_twice_is_refused():
    content = make_manifest(FILES, claims(), KEY).to_bytes()
    twice = content.replace(b'"version":', b'"version":"9","version":', 1)
    with pytest.raises(ReleaseError, match="canonical"):
        parse_manifest(twice)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "adapter/../../evil",
        "a//b",
        "./a",
        "a/.",
        ".hidden",
        "adapter/.hidden",
        "a\\b",
        "C:evil",
        "a b",
        "line\nbreak",
        "nul\0",
        "",
        "a/",
        "a/b/c/d",
        "manifest.json",
        "MANIFEST.json",
        "manifest.sig",
        "statement.md",
        "Adapter/adapter_model.safetensors",
        "trailing.",
        "ünïcode",
    ],
)
def test_an_unsafe_file_name_is_refused(name):
    with pytest.raises(ReleaseError, match="file name"):
        make_manifest({**FILES, name: b"x"}, claims(), KEY)


@given(st.text(alphabet=st.sampled_from("aZ0._-/\\ :\n~"), max_size=12))
def test_an_accepted_name_stays_inside_the_folder(name):
    try:
        check_file_names({**FILES, name: b""})
    except ValueError:
        return
    parts = name.split("/")
    assert all(part and part.strip(".") for part in parts)
    assert not set(name) & set("\\ :\n~")


def test_too_many_files_are_refused():
    with pytest.raises(ReleaseError, match="at most 32"):
        make_manifest(FILES | {f"f{one}": b"" for one in range(40)}, claims(), KEY)


def test_a_manifest_cannot_be_changed():
    manifest = make_manifest(FILES, claims(), KEY)
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = "9"
    with pytest.raises(TypeError):
        manifest.files["more"] = manifest.files["STATEMENT.md"]
    with pytest.raises(TypeError):
        manifest.privacy.merchants["other"] = None


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(number):
    values = {"measured_on": "public", "data": "d", "values": {"adapter": {"auc": number}}}
    with pytest.raises(ValidationError, match="finite"):
        claims(metrics=values)
    adapter = claims().adapter.model_dump()
    with pytest.raises(ValidationError, match="finite"):
        claims(adapter={**adapter, "settings": {"decay": number}})


def test_the_manifest_names_all_that_was_asked_of_it():
    assert set(Manifest.model_fields) == {
        "format", "format_version", "version", "created", "base_model", "catalogues", "adapter",
        "privacy", "metrics", "code_version", "parent", "signing_key", "files",
    }  # fmt: skip


AUDIT = {
    "epsilon": 2.9,
    "blocking": 1.8,
    "one_run": 1.1,
    "canaries": 512,
    "steps": 40,
    "commitment": HEX,
}


def audited(proved):
    document = json.loads(claims().model_dump_json())
    for one in document["privacy"]["merchants"].values():
        one["audit"] = {**AUDIT, "epsilon": proved + 1, "blocking": proved}
    return Claims.model_validate_json(json.dumps(document))


def test_a_claim_that_its_audit_disproves_can_be_neither_written_nor_read():
    manifest = make_manifest(FILES, audited(2.75), KEY)
    assert parse_manifest(manifest.to_bytes()).digest == manifest.digest
    with pytest.raises(ValidationError, match="prove at least"):
        audited(9.0)
    forged = manifest.to_bytes().replace(b'"blocking":2.75', b'"blocking":9.75')
    with pytest.raises(ReleaseError, match="prove at least"):
        parse_manifest(forged)
