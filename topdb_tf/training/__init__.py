"""Batches to weights: losses, optimizer, schedules and the training step."""
