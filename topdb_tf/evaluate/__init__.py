"""A model on a data set: embedded once, scored, averaged, calibrated, compared."""
