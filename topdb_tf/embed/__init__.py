"""Images to features: by a run, an export or a model server."""
