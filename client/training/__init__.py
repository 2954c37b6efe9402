"""One shopper, one example, one clipped gradient: private training on a merchant's node."""
