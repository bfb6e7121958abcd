"""Keeps everything: the Store contract, its schema and its engines."""
