"""A data set looked over: counts, names, contents, copies."""
