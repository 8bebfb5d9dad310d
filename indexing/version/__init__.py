"""One version of an index: build, updates, columns, filters, export."""
