"""Archives of the public data sets, unpacked safely."""
