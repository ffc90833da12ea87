"""A study and all that is kept of it: what it is about, its versions, its run directory, what came of its trials."""
