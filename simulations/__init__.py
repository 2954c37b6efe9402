"""Whole federations on one machine: data sets, partitions, baselines, experiments, report."""
