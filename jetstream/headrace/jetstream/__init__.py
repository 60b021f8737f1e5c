"""Streams and consumers: a client of the bus above and of the store below."""
