"""Jobs: run, build, update, tune, adopt."""
