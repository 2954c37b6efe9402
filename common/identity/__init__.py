"""Keys of nodes and operators, enrolment, expiry."""
