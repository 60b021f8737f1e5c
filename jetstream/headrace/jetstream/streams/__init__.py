"""Streams: what takes published messages, keeps them within limits, and gives them back."""
