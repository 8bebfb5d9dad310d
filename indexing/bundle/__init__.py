"""The bundle on disk: parts, releases, locks, verification, pruning."""
