"""The merchant's side: the only code that sees shoppers."""
