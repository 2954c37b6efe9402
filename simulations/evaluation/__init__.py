"""What a simulated federation's models are worth, and what they give away."""
