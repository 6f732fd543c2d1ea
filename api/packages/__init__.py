"""Packages on this machine's disks: taken from a catalogue into the models directory, and out of it again."""
