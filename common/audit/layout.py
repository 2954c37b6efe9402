"""Where a run's files lie in the folder that an auditor is given."""

from typing import Final

RELEASE: Final = "release"
PUBLIC_KEY: Final = "operator.pub"
JOURNAL: Final = "journal.jsonl"
LEDGERS: Final = "ledgers"
CONTRIBUTIONS: Final = "contributions"
PARENT: Final = "parent"  # of a refresh: the release whose adapter it keeps
MANIFEST: Final = f"{RELEASE}/manifest.json"
