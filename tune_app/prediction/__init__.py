"""Predictions with a saved model: of rows in memory, and from one file to another."""
