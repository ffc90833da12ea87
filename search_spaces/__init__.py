"""Flat search spaces and the rules that reject samples: plain data and pure functions."""
