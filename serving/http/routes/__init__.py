"""The resources of the server, one module for each kind."""
