"""Choice of trials, without Ray: proposal, screening, packing, and the display of progress and failures."""
