"""Arrays to pictures, with NumPy and matplotlib alone."""
