"""Arrays to pictures; NumPy and matplotlib alone."""
