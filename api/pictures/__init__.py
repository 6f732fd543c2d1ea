"""What every dialect needs to ask for pictures: checks, input pictures, waiting, files."""
