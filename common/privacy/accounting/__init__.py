"""From a plan to epsilon, by two accountants and a Renyi filter."""
