"""The search itself, with Ray and Optuna: proposes, filters and packs trials, runs them, records what came of each."""
