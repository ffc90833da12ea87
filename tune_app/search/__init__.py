"""Search with Ray and Optuna: proposal, filtering and packing of trials, their execution, and the recorded outcomes."""
