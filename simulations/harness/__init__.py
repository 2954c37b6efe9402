"""Deployments and crashes on one machine, for tests. Not shipped."""
