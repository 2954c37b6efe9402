"""Recommendations for a shopper: filters, reasons, new items, what joining brings."""
