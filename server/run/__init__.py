"""One run: cohort, aggregation, optimiser, checkpoint, journal."""
