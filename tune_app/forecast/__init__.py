"""Forecast of a search before anything runs: space, memory, packing, hours, disk, and warnings."""
