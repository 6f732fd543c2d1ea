"""Language models: a package's files, its geometry, and the loop that turns messages into text."""
