"""Append logs with a derived index: records, sequences, group commit and crash recovery."""
