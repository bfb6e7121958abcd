"""Ways out: one file for each kind of destination, held to one contract."""
