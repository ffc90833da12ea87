"""What can run: preconditions of a search, rules that reject samples, and packing by memory need. No Ray."""
