"""The score of an item for a shopper, and how a shop fits it on its own purchases."""
