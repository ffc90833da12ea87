"""Planning of a trial's memory: prediction before launch, probe, and the limits of every pass."""
