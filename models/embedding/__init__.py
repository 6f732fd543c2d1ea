"""Models that turn a text into one vector, to find texts of like meaning by."""
