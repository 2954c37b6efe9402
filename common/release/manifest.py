"""What a release says about itself: one canonical JSON document, the only thing that is signed.

The manifest names every other file of the release with its size and SHA-256, so a signature over
the manifest's bytes covers all of them. Unknown, missing and mistyped fields are errors.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from common.errors import ReleaseError
from common.files import sha256_hex
from common.record import FrozenMap, Record, Sha256, first_problem
from common.release.statement import Statement

FORMAT: Final = "fedtail-release"
FORMAT_VERSION: Final = 1

MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.sig"
ADAPTER_FILE: Final = "adapter/adapter_model.safetensors"
ADAPTER_CONFIG_FILE: Final = "adapter/adapter_config.json"
BASIS_FILE: Final = "basis.safetensors"
STATEMENT_FILE: Final = "STATEMENT.md"
CANARIES_FILE: Final = "canaries.safetensors"  # revealed canaries, where the run was audited
# What the sums of a run with distributed noise showed of the canaries.
CANARY_SUMS_FILE: Final = "canary-sums.safetensors"
SEASON_FILE: Final = "season.safetensors"  # where the run took a season (`common.season`)
CONTRIBUTIONS_FILE: Final = "contributions.jsonl"  # what each node signed of what it sent
REQUIRED_FILES: Final = (ADAPTER_FILE, ADAPTER_CONFIG_FILE, BASIS_FILE, STATEMENT_FILE)

MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 256 << 20
MAX_FILES: Final = 32

_NAME_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
Version = Annotated[str, Field(pattern=r"\A[0-9]{1,9}(\.[0-9]{1,9}){0,3}\z")]


def _utc(text: str) -> str:
    if datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError("the time must carry UTC, such as 2026-11-24T10:30:00+00:00")
    return text


UtcTime = Annotated[str, AfterValidator(_utc)]


class FileRecord(Record):
    """One file of the release: its size in bytes and the SHA-256 of its bytes."""

    size: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: Sha256


class BaseModelRecord(Record):
    """The language model the adapter belongs to, and the SHA-256 of its weights."""

    name: str = Field(min_length=1)
    weights_sha256: Sha256


class AdapterRecord(Record):
    """What was trained.

    Attributes:
        method: How LoRA was trained, such as `ffa-lora` (A frozen, B trained) or `lora`.
        lora_targets: The adapted modules, such as `encoder.layer.5.output.dense`.
        rank: LoRA's r.
        alpha: LoRA's scale numerator.
        trained_numbers: How many numbers were trained and sent (d).
        digest: `AdapterState.digest` of the trained tensors, as the server's journal has it.
        settings: Whatever else ranking needs to know: pooling decay, temperature, lengths.
    """

    method: str = Field(min_length=1)
    lora_targets: tuple[str, ...] = Field(min_length=1)
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    trained_numbers: int = Field(ge=1)
    digest: Sha256
    settings: FrozenMap[JsonValue] = MappingProxyType({})


MeasuredOn = Literal["public", "simulated", "nothing"]


class MetricsRecord(Record):
    """Metrics that may be published: measured on public data or in a simulation.

    Attributes:
        measured_on: A merchant's own shoppers are neither public nor made up, so they have no word
            here: where only they could be measured, nothing is told.
        data: The data set's name and split.
        values: By model, then by metric; null where a metric is not defined.
    """

    measured_on: MeasuredOn
    data: str = Field(min_length=1)
    values: FrozenMap[FrozenMap[float | None]]

    @model_validator(mode="after")
    def _tells_nothing_of_nothing(self) -> Self:
        if self.measured_on == "nothing" and self.values:
            raise ValueError("values are told that were measured on nothing")
        return self


class Claims(Record):
    """All that the operator says about a release, before the files are counted.

    Attributes:
        version: One to four numbers with dots, such as `2026.11.24`; compared number by number.
        created: UTC, ISO 8601.
        catalogues: SHA-256 of each catalogue the release was trained with, by name.
        privacy: What the release costs a shopper, and what it does not cover.
        code_version: The fedtail version, and the commit where known.
        parent: The digest of the release this one was trained from, or whose adapter it keeps: then
            its plan has no steps, and its settings name the same digest (`refresh_of`).
    """

    version: Version
    created: UtcTime
    base_model: BaseModelRecord
    catalogues: FrozenMap[Sha256]
    adapter: AdapterRecord
    privacy: Statement
    metrics: MetricsRecord
    code_version: str = Field(min_length=1)
    parent: Sha256 | None = None


class Manifest(Claims):
    """The claims with the files they are about, and the id of the key that signs them."""

    format: Literal["fedtail-release"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    signing_key: Sha256
    files: FrozenMap[FileRecord]

    @model_validator(mode="after")
    def _files_are_named_safely(self) -> Self:
        check_file_names(self.files)
        return self

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: keys sorted, no spaces, ASCII, finite numbers."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode("ascii")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes: the release's own name, and a child's `parent`."""
        return sha256_hex(self.to_bytes())


def check_file_names(names: Mapping[str, object]) -> None:
    """Hold every file name to plain relative paths inside the folder.

    Raises:
        ValueError: if a required name is missing, there are too many, or a name could point
            outside the folder, hide, or meet another on a file system that ignores case.
    """
    missing = [name for name in REQUIRED_FILES if name not in names]
    if missing:
        raise ValueError(f"the required file {missing[0]} is not listed")
    if len(names) > MAX_FILES:
        raise ValueError(f"{len(names)} files are listed; at most {MAX_FILES} are allowed")
    seen = {MANIFEST_FILE, SIGNATURE_FILE}
    for name in names:
        parts = name.split("/")
        if len(parts) > 3 or not all(_NAME_PART.fullmatch(part) for part in parts):
            raise ValueError(
                f"the file name {name!r} is not a plain relative path of letters, digits, "
                "dots, hyphens and underscores, at most three deep"
            )
        if name.lower() in seen:
            raise ValueError(f"the file name {name!r} is reserved or listed twice")
        seen.add(name.lower())


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest strictly; call it on bytes whose signature has been verified.

    Raises:
        ReleaseError: if the bytes are not canonical JSON of exactly the fields of `Manifest`, or
            are of another format version.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad("is not JSON; download the release again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _bad(f"has no field format = {FORMAT!r}, so it is not a fedtail release")
    if document.get("format_version") != FORMAT_VERSION:
        raise _bad(
            f"has format_version {document.get('format_version')!r}; this fedtail reads "
            f"{FORMAT_VERSION}. Install the fedtail that the operator names for it"
        )
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise _bad(f"is not valid: {first_problem(error)}. Ask the operator to sign it anew") from (
            error
        )
    if manifest.to_bytes() != content:
        raise _bad("is not in canonical form (a key twice, spaces or another order)")
    return manifest


def _bad(what: str) -> ReleaseError:
    return ReleaseError(f"{MANIFEST_FILE} {what}.", field=MANIFEST_FILE)
