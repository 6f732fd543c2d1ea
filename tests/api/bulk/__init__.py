"""Files and batches, over a Redis of their own."""
