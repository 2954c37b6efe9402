"""Names of files in a run's folder, and of the place that paths are relative to."""

CATALOGUE_FILE = "public-catalogue.jsonl"  # in a run's folder, as the next
JOURNAL_FILE = "journal.jsonl"
# In the environment of an operator's runs: the folder that paths in their configuration are below.
SERVER_FOLDER = "FEDTAIL_SERVER_FOLDER"
