"""The demo models of the virtual card, and the scripts that train and export them."""
