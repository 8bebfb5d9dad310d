"""What is known of the requests of a server: metrics, logs, traces, and the last minute."""
