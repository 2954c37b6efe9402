"""The coordinator's side: it sees protected updates and public catalogues, never a shopper."""
