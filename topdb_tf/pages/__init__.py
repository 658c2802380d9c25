"""Facts, figures and pictures to a single page of HTML; no TensorFlow."""
