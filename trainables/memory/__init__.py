"""A trial's device memory: recognising out-of-memory errors, releasing memory, predicting and limiting its use."""
