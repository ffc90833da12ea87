"""Hyperparameter search on Ray, Optuna and MLflow: command line, experiment, searcher, study, tracking, export."""

__version__ = "0.1.0"
