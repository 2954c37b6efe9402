"""What a coordinator computes from protected numbers, and an auditor computes again."""
