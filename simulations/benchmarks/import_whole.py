"""An import as `fedtail client import` does it: python -m ... FOLDER OUT."""

import sys
from pathlib import Path

from client.importing.shop_import import import_shop

if __name__ == "__main__":
    import_shop(Path(sys.argv[1]), None, Path(sys.argv[2]))
