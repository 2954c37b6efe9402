"""Measure and print: python -m simulations.benchmarks, or make bench."""

from rich.console import Console

from simulations.benchmarks.lanes import measure_lanes
from simulations.benchmarks.steps import measure_step


def main() -> None:
    """Run all benchmarks: under a minute on two cores."""
    step = measure_step()
    Console().print(
        f"One merchant's private step ({step.shoppers} shoppers of the synthetic marketplace): "
        f"{step.private_seconds:.3f} s. The same gradients without per-shopper clipping: "
        f"{step.plain_seconds:.3f} s. Ratio {step.ratio:.2f}."
    )
    lanes = measure_lanes()
    Console().print(
        f"The audit's canary lanes add {1000 * lanes:.1f} ms to a step: "
        f"{lanes / step.private_seconds:.1%}."
    )


if __name__ == "__main__":
    main()
