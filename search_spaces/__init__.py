"""Flat search spaces and the rules that turn samples away: plain data and pure functions."""
