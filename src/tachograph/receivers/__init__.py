"""Bytes that arrive over the network, made into a Batch."""
