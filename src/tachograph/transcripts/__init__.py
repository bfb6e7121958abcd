"""Files that agents already write, made into a Batch."""
