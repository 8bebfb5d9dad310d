"""The data contract: files, their checks, events, judgements and how they are split."""
