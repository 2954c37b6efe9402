"""What guards a shop's shoppers: policy, budget, receipts, canaries, which code may run."""
