"""The native dialect: jobs as they are, submitted, listed, followed and cancelled by id."""
