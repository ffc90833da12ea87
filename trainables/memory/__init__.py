"""The trial's dealings with device memory: telling an out-of-memory error, giving memory back, checking that."""
