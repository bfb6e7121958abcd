"""Ways out: what was captured, in the words of other systems."""
