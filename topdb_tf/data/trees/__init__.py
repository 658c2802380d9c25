"""Trees of folders: what the name of each level says, and what the level is."""
