"""Records Python programs: what their environment has, which instrumentation fits, and what runs inside them."""
