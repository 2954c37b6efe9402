"""The settings of a refresh: those of the release whose season is taken anew, but for the run's.

How the adapter was made, and how a release is read, stays as the parent has it. Who takes part, for
how much, and when the season ends, is the refresh's own.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from common.errors import SettingsError
from common.settings.run import RunSettings, Scalar

OWN: Final = frozenset(
    {
        "seed",
        "seeded_noise",
        "quorum",
        "min_merchants",
        "wait_seconds",
        "round_timeout",
        "prepare_timeout",
        "grace_seconds",
        "epsilon",
        "delta",
        "noise",
        "spared_share",
        "size_bracket",
        "season_ends",
        "aggregation",
        "trimmed_share",
    }
)
# What a run without rounds has, whatever its parent had.
_FORCED: Final[Mapping[str, Scalar]] = {
    "rounds": 0,
    "steps_per_round": 1,
    "audit_canaries": 0,
    "season_share": 0.25,
}
_MAY_DIFFER: Final = OWN | _FORCED.keys() | {"refresh_of"}


def refreshed_settings(
    parent: Mapping[str, Any], digest: str, asked: Mapping[str, Any], *, after: int = 0
) -> RunSettings:
    """Return the settings of a refresh.

    Args:
        parent: The flat settings in the manifest of the release that is refreshed.
        digest: `Manifest.digest` of that release: the one that trained the adapter, also where it
            was refreshed before.
        asked: What the refresh sets itself, out of `OWN`; `season_ends` among it. What else is
            there must be as the release has it.
        after: When the last season that was taken ended, microseconds since 1970 UTC.

    Raises:
        SettingsError: if a setting is asked for that is the parent's; or none for epsilon, or no
            end of the season; or one is out of bounds; or the season would end no later than the
            last one.
    """
    # The share of a season says nothing here, and a release without a season does not tell it.
    others = {name: value for name, value in asked.items() if name not in {*OWN, "season_share"}}
    before, said = RunSettings.from_flat(parent), RunSettings.from_flat({**parent, **others})
    for name in sorted(others):
        if getattr(said, name) != getattr(before, name):
            raise SettingsError(
                f"{name} is the release's own, {getattr(before, name)}: a refresh keeps its "
                f"adapter, and sets only {', '.join(sorted(OWN))}.",
                field=name,
            )
    if "epsilon" not in asked and asked.get("noise", parent.get("noise")) != "none":
        raise SettingsError(
            "Say what the refresh may cost: epsilon. That of the release was for a whole training.",
            field="epsilon",
        )
    held = {name: value for name, value in parent.items() if name != "season_ends"}
    own = {name: value for name, value in asked.items() if name in OWN}
    settings = RunSettings.from_flat({**held, **_FORCED, "refresh_of": digest, **own})
    if settings.season_moments[-1] <= after:
        ended = datetime.fromtimestamp(after / 1e6, UTC)
        raise SettingsError(
            f"The last season was taken up to {ended:%Y-%m-%d %H:%M} already: a refresh that ends "
            "no later would cost every shopper and say nothing new.",
            field="season_ends",
        )
    return settings


def kept_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return, of a release's flat settings, those that a refresh of it must have too."""
    return {name: value for name, value in settings.items() if name not in _MAY_DIFFER}
