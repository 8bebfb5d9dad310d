"""Which index a catalogue gets: measuring, choosing, filters."""
