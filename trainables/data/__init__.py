"""From the user's file to padded batches: rows are read and checked, split by group, tokenised once and assembled."""
