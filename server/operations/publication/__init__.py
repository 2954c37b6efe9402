"""The repository of releases in an operator's hands: publish, withdraw, keep fresh, rotate keys."""
