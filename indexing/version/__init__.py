"""A version of an index: build, updates, item columns, filters, export."""
