"""Training of a trial: exactly split effective batches, steps, schedules, evaluation, checkpoints."""
