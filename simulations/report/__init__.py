"""Results for people: HTML, terminal, figures."""
