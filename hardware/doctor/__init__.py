"""What a machine must have for its card to serve, looked at one by one. The program is ``worker.doctor``."""
