"""What is done to raw rows, in order: the table of cleaning rules, ids and orders."""
