"""Talks to Ray, Optuna, MLflow and the person: command line, experiment, searcher, study, tracking, export."""

__version__ = "0.1.0"
