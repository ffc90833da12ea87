"""Everything that runs inside one trial: data, model loading, memory, tasks, training. Knows no Ray and no Optuna."""
