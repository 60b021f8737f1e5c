"""Streams as one run of bytes: sent to a client that keeps it, and taken back from one."""
