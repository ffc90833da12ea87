"""Samplers that propose configurations. No Ray."""
