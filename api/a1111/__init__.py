"""The dialect of AUTOMATIC1111's web UI (``/sdapi/v1``): pictures, for the clients it has."""
