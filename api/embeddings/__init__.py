"""Texts to vectors, whatever dialect asks for them: what is wanted, and what the vectors look like."""
