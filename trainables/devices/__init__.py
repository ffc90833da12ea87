"""Memory devices: CUDA, the CPU under a budget, and the simulated card that processes share."""
