"""What an operator looks at: status, and the journal as tables or a page."""
