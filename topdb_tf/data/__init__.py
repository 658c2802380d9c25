"""Image folders to batches of labelled pixels."""
