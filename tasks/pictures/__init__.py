"""What every room needs to know of picture files: their first bytes, and the text they carry."""
