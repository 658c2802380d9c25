"""Settings to objects to runs: the only room that knows both."""
