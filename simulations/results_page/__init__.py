"""docs/ref-results.md from finished runs. Not shipped."""
