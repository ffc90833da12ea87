"""How a trial learns: effective batches cut exactly, steps, schedules, evaluation, checkpoints."""
