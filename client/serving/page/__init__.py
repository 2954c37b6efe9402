"""The page that a merchant looks at: lists and why, reach, results, budget, models and health.

It is served by the process that serves the lists, and rendered there: no build step, no foreign
host. It shows aggregates; of a single shopper it shows what the merchant asks for, and keeps none.
"""
