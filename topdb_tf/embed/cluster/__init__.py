"""Images to features by the workers of a cluster."""
