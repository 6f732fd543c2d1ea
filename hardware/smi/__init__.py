"""The vendor's tool ``axcl-smi``: running it without harm, and reading what it prints."""
