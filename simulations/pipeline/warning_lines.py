"""What a person must know before a simulation charges anything."""

from collections.abc import Iterator

from client.shop.dataset import MerchantData
from common.settings.run import RunSettings
from simulations.options import SimulationOptions, sizes_declared

LEARNT = (
    "The items were learnt from purchases, so the catalogue tells what was bought and ε does not "
    "cover it. Real nodes refuse such an import; give an item list of its own before you show this "
    "release to anybody."
)
COUNTED = (
    "Size bracket and δ follow counts of shoppers here, which ε does not cover; a merchant "
    "declares them: --set size_bracket=… --set delta=…"
)
UNTOLD = (
    "The shoppers are taken for real: the release tells no metrics of theirs. Results and report "
    "do, exactly, so show them to nobody. Of public data say so: --public-data"
)


def warnings(
    options: SimulationOptions, settings: RunSettings, data: MerchantData
) -> Iterator[str]:
    """Yield what is to be said of catalogue, delta, sizes and of whose shoppers they are."""
    if not data.catalogue_declared:
        yield LEARNT
    if told := settings.plan().delta_warning:
        yield told
    if options.data is not None and not options.public_data:
        if not sizes_declared(options.settings):
            yield COUNTED
        yield UNTOLD
