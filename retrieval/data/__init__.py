"""The data contract: reading and checking the files, events, judgements, histories and splits."""
