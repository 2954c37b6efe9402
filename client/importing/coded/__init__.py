"""Ids as whole numbers, and what sorting them finds: equal rows and baskets."""
