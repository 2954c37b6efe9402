"""Differential privacy: plan, clipping, noise, accounting and the ledger."""
