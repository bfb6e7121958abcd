"""What programs ask of the pages' server: the owner's commands, and the data that our own pages fetch."""
