"""Confirmation of a study's winner: leaders retrained on fresh seeds, compared with their uncertainty, and tested once.

``run.py`` shows a confirmation in order.
"""
