"""Execution of trials on Ray: cluster, workers, schedulers, searcher and recorder. Nothing else imports Ray."""
