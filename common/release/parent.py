"""Hold a refresh to the release that it refreshes: nothing but the season may differ.

One body for the operator who makes it, the merchant who has the parent, and the auditor.
"""

from collections.abc import Mapping
from typing import Any

from common.errors import ReleaseError
from common.release.manifest import ADAPTER_CONFIG_FILE, ADAPTER_FILE, BASIS_FILE, Manifest
from common.release.verify import VerifiedRelease
from common.settings.lora_targets import PROJECTION_FILE
from common.settings.refresh import kept_settings

_FILES = (ADAPTER_FILE, ADAPTER_CONFIG_FILE, PROJECTION_FILE, BASIS_FILE)  # of the model
_FACTS = ("method", "lora_targets", "rank", "alpha", "trained_numbers", "digest")


def trained_digest(manifest: Manifest) -> str:
    """Return the digest of the release whose training made this one's adapter, of a verified one.

    It is its own digest, or a refresh's parent: that always is a release that was trained.
    """
    trains = manifest.privacy.privacy_plan.trains
    return manifest.digest if trains else manifest.parent or ""


def differences(child: VerifiedRelease, parent: VerifiedRelease) -> dict[str, str]:
    """Return what a refresh has that is not its parent's, though it must be: what, by field.

    Args:
        child: The refresh; both are verified.
        parent: The release of the digest that the child names, which the caller has seen to.
    """
    ours, theirs = child.manifest, parent.manifest
    found = {}
    for name in _FILES:
        if child.files.get(name) != parent.files.get(name):
            found[name] = "is not the parent's, to the bit"
    for field in _FACTS:
        if getattr(ours.adapter, field) != getattr(theirs.adapter, field):
            found[f"adapter.{field}"] = "is not the parent's"
    if ours.base_model != theirs.base_model:
        found["base_model"] = "is not the parent's"
    for name in _others(ours.adapter.settings, theirs.adapter.settings):
        found[f"adapter.settings.{name}"] = "is not the parent's"
    return found


def check_same_adapter(child: VerifiedRelease, other: VerifiedRelease) -> None:
    """Refuse a refresh that is not of `other`'s adapter: the parent, or a refresh of the same one.

    Raises:
        ReleaseError: naming what differs.
    """
    for field, what in differences(child, other).items():
        raise ReleaseError(
            f"The release says that it keeps the adapter of {other.manifest.version}, and its "
            f"{field} {what}. Do not use it; ask the operator.",
            field=field,
        )


def check_kept(settings: Mapping[str, Any], parent: VerifiedRelease) -> None:
    """Refuse settings under which a refresh would read the parent's adapter in another way.

    Raises:
        ReleaseError: naming the setting.
    """
    others = _others(settings, parent.manifest.adapter.settings)
    if others:
        raise ReleaseError(
            f"The release that is refreshed was made with another {others[0]}; a refresh keeps it.",
            field=others[0],
        )


def _others(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    kept, before = kept_settings(ours), kept_settings(theirs)
    return sorted(
        name for name in kept.keys() | before.keys() if _told(kept, name) != _told(before, name)
    )


def _told(settings: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    return name in settings, settings.get(name)
