"""A shop's tables come in: read, mapped, cleaned, counted. The one room with Polars and SQL."""
