"""One module a source of exports, each with the declaration of its reader; a module here is found by itself."""
