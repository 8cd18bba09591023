"""Recording and running networks of any layers."""
