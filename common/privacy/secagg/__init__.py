"""A secure sum: the server learns the sum of the merchants' integers, and no summand."""
