"""One file for each page: what it asks the store, and what it hands its template."""
