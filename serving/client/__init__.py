"""A typed client of the server, whose answers are the engine's own types."""
