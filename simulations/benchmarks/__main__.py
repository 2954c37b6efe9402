"""Measure and print: python -m simulations.benchmarks, or make bench."""

from rich.console import Console

from simulations.benchmarks.canaries import measure_canaries
from simulations.benchmarks.ledger import (
    APPEND_LIMIT,
    ENTRIES,
    EPSILON_LIMIT,
    MeasuredLedger,
    measure_ledger,
)
from simulations.benchmarks.secure_sum import line, measure_sum
from simulations.benchmarks.serving import LIMIT, SIZES, measure_lists
from simulations.benchmarks.steps import measure_step


def main() -> None:
    """Run all benchmarks: under a minute on two cores."""
    step = measure_step()
    Console().print(
        f"One merchant's private step ({step.shoppers} shoppers of the synthetic marketplace): "
        f"{step.private_seconds:.3f} s. Plain autograd over the same packed rows: "
        f"{step.plain_seconds:.3f} s. Ratio {step.ratio:.2f}."
    )
    canaries, processor = measure_canaries()
    Console().print(
        f"The audit's canaries add {1000 * canaries:.1f} ms to a step: "
        f"{canaries / step.private_seconds:.1%}. Of the processor, without the disk's sync: "
        f"{1000 * processor:.1f} ms, {processor / step.private_seconds:.1%}."
    )
    Console().print(line(measure_sum(64)))
    for distinct in (12, 195):
        _print_ledger(measure_ledger(distinct))
    for items in SIZES:
        found = measure_lists(items)
        Console().print(
            f"The top 10 of {items} items: {1000 * found.plain:.1f} ms, with reasons "
            f"{1000 * found.explained:.1f} ms. The bare product and argpartition: "
            f"{1000 * found.bare:.1f} ms. Ratio {found.plain / found.bare:.2f} (limit {LIMIT:g})."
        )


def _print_ledger(ledger: MeasuredLedger) -> None:
    spent = ledger.report
    Console().print(
        f"A ledger of {ENTRIES} entries, {ledger.distinct} distinct. One append: "
        f"{1000 * ledger.append:.1f} ms, {1000 * ledger.append_processor:.1f} ms of them on the "
        f"processor (limit {1000 * APPEND_LIMIT:.0f} ms: {ledger.append / APPEND_LIMIT:.0%}); one "
        f"charge: {1000 * ledger.charge:.1f} ms. Epsilon by all three accountants: "
        f"{ledger.wall:.2f} s, {ledger.processor:.2f} s of them on the processor (limit "
        f"{EPSILON_LIMIT:.0f} s: {ledger.wall / EPSILON_LIMIT:.0%}). "
        f"pld {spent.pld:.3f}, prv {spent.prv:.3f}, rdp {spent.rdp:.3f}."
    )


if __name__ == "__main__":
    main()
