"""The tiny chat model that answers out of the box: its text, its training and its evaluation."""
