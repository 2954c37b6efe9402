"""Compute epsilon again from the entries, by two accountants, and hold the claims to it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.adapter import AdapterState
from common.audit.findings import Checklist, CurvePoint, Marks
from common.audit.layout import MANIFEST, RELEASE
from common.errors import InputError
from common.privacy.accounting.accountants import Events, endless, epsilon_pld, epsilon_rdp
from common.privacy.accounting.claim import epsilon_claimed
from common.privacy.accounting.second_accountant import SecondOpinion, second_opinion
from common.privacy.accounting.shared_claim import epsilon_by_absent, renyi_with_absent
from common.privacy.ledger.entry import Entry, spent_events
from common.release.code_digest import code_digest
from common.release.manifest import ADAPTER_FILE, Manifest
from common.release.statement import MerchantPrivacy, Statement
from common.release.statement_draft import ledger_cost, run_cost, several_merchants
from common.release.statement_page import TRUST
from common.release.verify import VerifiedRelease
from common.settings.lora_targets import PROJECTION_FILE

TOLERANCE = 1e-3  # one accountant, another version or machine
_BISECTED = 2e-3  # two searches for one ceiling end this close, as a part of it
CURVE_POINTS = 24


def check_epsilon(
    sheet: Checklist, name: str, statement: Statement, entries: Sequence[Entry]
) -> SecondOpinion | None:
    """Check one merchant's claim against its ledger; return the second accountant.

    Args:
        sheet: Takes the findings.
        name: The merchant.
        statement: Of a verified release.
        entries: All that its claim must cover: up to the entry that the statement names, or to its
            last charge for the run, whichever is later (`check_coverage`).
    """
    one = statement.merchants[name]
    other: SecondOpinion | None = None
    title = "Epsilon: the claim against what two accountants compute"
    with sheet.check(title, MANIFEST, name) as marks:
        events = spent_events(entries)
        if one.epsilon is None or one.delta is None:
            marks.note("no noise was added, and nothing is claimed")
            return None
        pld, rdp = epsilon_pld(events, one.delta), epsilon_rdp(events, one.delta)
        other = second_opinion(events, one.delta)
        claimed = epsilon_claimed(statement.privacy_plan.events(), events, one.delta)
        _compare(marks, name, one, {"epsilon": claimed, "pld": pld, "rdp": rdp}, other)
        _compare_lifetime(marks, name, one, events)
        if not other.accepts(pld):
            marks.wrong(
                "accountants",
                f"For {name} PLD gives {pld:.4f}, {other.accountant} {other.epsilon:.4f}.",
            )
        marks.says(f"claimed {one.epsilon:.3f}, computed {pld:.3f} and {other.epsilon:.3f}")
        _check_seeds(marks, statement, entries)
    return other


def _compare(
    marks: Marks,
    name: str,
    one: MerchantPrivacy,
    computed: dict[str, float],
    other: SecondOpinion,
) -> None:
    stated = {"epsilon": one.epsilon, "pld": one.accountants.pld, "rdp": one.accountants.rdp}
    found = dict(computed)
    if other.numerical:
        stated["prv"], found["prv"] = one.accountants.prv, other.epsilon
    for field, value in stated.items():
        # Two programs compute PRV's bound on grids of their own, which lie this far apart.
        room = 10 * TOLERANCE if field == "prv" else TOLERANCE
        if value is None or not abs(value - found[field]) <= room:
            says = "nothing" if value is None else f"{value:.4f}"
            marks.wrong(
                field, f"The statement says {says} of {name}; its ledger gives {found[field]:.4f}."
            )


def _compare_lifetime(marks: Marks, name: str, one: MerchantPrivacy, events: Events) -> None:
    """Compare what the filter lets pass of the whole ledger, for both kinds of neighbours."""
    if one.ledger is None or one.delta is None:
        return  # no statement is read without it
    found = ledger_cost(events, one.delta)
    for field in ("add_or_remove", "replace_one"):
        stated, value = getattr(one.ledger, field), getattr(found, field)
        if not abs(stated - value) <= max(TOLERANCE, _BISECTED * value):
            marks.wrong(
                f"ledger.{field}",
                f"The statement says {stated:.4f} of {name}; the filter gives {value:.4f}.",
            )


def check_run_cost(sheet: Checklist, statement: Statement) -> None:
    """Check what the plan alone costs, for both kinds of neighbours, by two accountants."""
    title = "Neighbours: this run's epsilon computed again from the plan"
    with sheet.check(title, MANIFEST) as marks:
        plan, told, again = statement.privacy_plan, statement.run, run_cost(statement.privacy_plan)
        if told is None or again is None:
            marks.says("no noise, no guarantee")
            return
        above = ledger_cost(plan.events(), plan.delta)
        for field in ("add_or_remove", "replace_one"):
            stated, value = getattr(told, field), getattr(again, field)
            if not abs(stated - value) <= TOLERANCE * max(1.0, value):
                marks.wrong(f"run.{field}", f"It says {stated:.4f}; it is {value:.4f}.")
            if not value <= getattr(above, field) * (1 + _BISECTED):
                marks.wrong(
                    "accountants",
                    f"PLD gives {value:.4f}, above the Renyi bound {getattr(above, field):.4f}.",
                )
        marks.says(f"added or removed {again.add_or_remove:.3f}, replaced {again.replace_one:.3f}")
        if plan.delta_warning:
            marks.note(plan.delta_warning)


def _check_seeds(marks: Marks, statement: Statement, entries: Sequence[Entry]) -> None:
    seeded = [entry.number for entry in entries if entry.seeded_noise]
    if seeded and not statement.noise.seeded:
        marks.wrong(
            "noise.seeded",
            f"Noise from a fixed seed was allowed (entry {seeded[0]} of the ledger), and the "
            "statement does not say so.",
        )
    elif seeded or statement.noise.seeded:
        marks.note("NOISE FROM A FIXED SEED: a test that protects nobody, as the statement says")


def tell_trust(sheet: Checklist, statement: Statement) -> None:
    """Tell who must be trusted; a DP model that protects from few is a note."""
    with sheet.check("Trust: where the noise was added", MANIFEST) as marks:
        if statement.dp_model == "local":
            marks.says("at each merchant: nobody else need be trusted")
        else:
            marks.note(TRUST[statement.dp_model])


def check_absent(sheet: Checklist, statement: Statement) -> None:
    """Check epsilon by how many merchants are missing or with the server, by two routes."""
    if statement.dp_model != "distributed":
        return
    title = "Absent merchants: epsilon computed again from the plan"
    with sheet.check(title, MANIFEST) as marks:
        plan = statement.privacy_plan
        for told, again in zip(statement.absent, epsilon_by_absent(plan), strict=True):
            if not abs(told.epsilon - again) <= TOLERANCE * max(1.0, again):
                marks.wrong(
                    "absent",
                    f"With {told.absent} absent it says {told.epsilon:.4f}; it is {again:.4f}.",
                )
            second = renyi_with_absent(plan, told.absent)
            if again > second * (1 + _BISECTED):
                marks.wrong(
                    "accountants",
                    f"With {told.absent} absent PLD gives {again:.4f}, above the {second:.4f} of "
                    "discrete shares' Renyi divergence.",
                )
        charged = epsilon_pld(plan.events(), plan.delta)
        if statement.absent[-1].epsilon > charged + TOLERANCE:
            marks.wrong("absent", f"A ledger is charged {charged:.4f}, less than is told.")
        marks.says(
            "missing or with the server: "
            + ", ".join(f"{one.absent}: {one.epsilon:.3f}" for one in statement.absent)
        )


def check_several(sheet: Checklist, statement: Statement) -> None:
    """Check epsilon of a shopper at several merchants."""
    title = "A shopper of several merchants: computed again from the plan"
    with sheet.check(title, MANIFEST) as marks:
        found = several_merchants(statement.privacy_plan)
        for told, again in zip(statement.several, found, strict=True):
            for field in ("local", "central"):
                stated, value = getattr(told, field), getattr(again, field)
                if not abs(stated - value) <= TOLERANCE * max(1.0, value):
                    marks.wrong(
                        f"several.{field}",
                        f"At {told.merchants} merchants it says {stated:.4f}; it is {value:.4f}.",
                    )
        marks.says("both DP models, 1 to 5 merchants" if found else "no noise, no guarantee")


def check_adapter(sheet: Checklist, release: VerifiedRelease) -> None:
    """Check that the adapter is the one the manifest names."""
    manifest = release.manifest
    with sheet.check("Adapter: the one that the manifest names", RELEASE) as marks:
        if manifest.adapter.digest not in _adapter_digests(release):
            file = f"{RELEASE}/{ADAPTER_FILE}"
            marks.wrong("adapter.digest", "The tensors have another digest.", file=file)


def _adapter_digests(release: VerifiedRelease) -> set[str]:
    """Return the digests that the release's trained tensors can have: B alone, or A and B."""
    files = [name for name in release.files if name in {ADAPTER_FILE, PROJECTION_FILE}]
    tensors: dict[str, NDArray[np.float32]] = {}
    for name in files:
        try:
            tensors |= AdapterState.from_bytes(release.files[name]).tensors
        except InputError:
            return set()
    only_b = {name: tensor for name, tensor in tensors.items() if ".lora_B." in name}
    return {AdapterState(one).digest for one in (only_b, tensors) if one}


def check_code(sheet: Checklist, manifest: Manifest) -> None:
    """Tell whether this program is the code that made the release."""
    with sheet.check("Code: the release's and this program's", MANIFEST) as marks:
        made_by = f"release made by {manifest.code_version}"
        marks.says(made_by)
        if manifest.privacy.code_sha256 != code_digest():
            marks.note("this program is another version: get that one to check line by line")


def curve(entries: Sequence[Entry], delta: float) -> tuple[CurvePoint, ...]:
    """Return epsilon by PLD as it grew over a ledger, at about `CURVE_POINTS` points of it.

    Each point is an accounting of its own, whose time grows with the number of distinct events: a
    ledger of many gets fewer points, the last among them.
    """
    if not entries or endless(spent_events(entries)):
        return ()
    points = max(4, CURVE_POINTS // max(1, len(spent_events(entries)) - 1))
    every = max(1, -(-len(entries) // points))
    numbers = sorted({1, *range(every, len(entries) + 1, every), len(entries)})
    found = []
    for number in numbers:
        events: Events = spent_events(entries[:number])
        point = CurvePoint(
            entry=number, time=entries[number - 1].time, epsilon=epsilon_pld(events, delta)
        )
        found.append(point)
    return tuple(found)
