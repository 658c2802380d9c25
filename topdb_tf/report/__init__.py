"""One run, or several, on a page."""
