"""Data sets whose queries are tracks: rows of images of one person by one camera."""
