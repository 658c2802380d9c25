"""CUHK03 from its original distribution: `cuhk-03.mat` and the new protocol."""
