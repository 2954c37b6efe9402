"""Names of files in a run's folder."""

CATALOGUE_FILE = "public-catalogue.jsonl"  # in a run's folder, as the next


JOURNAL_FILE = "journal.jsonl"
