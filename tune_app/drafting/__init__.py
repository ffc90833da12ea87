"""Drafts of configurations: from a data file to a complete configuration that explains each of its settings."""
