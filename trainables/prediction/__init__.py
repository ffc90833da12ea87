"""Predictions of a saved model over rows: in memory, or from one file to another."""
