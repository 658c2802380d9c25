"""Settings, recipes, the run folder, the machine, the data and the network of a run."""
