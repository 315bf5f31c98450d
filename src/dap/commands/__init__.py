"""What the longer commands do between parsing and the library: draw progress, add up results. Imports no torch."""
