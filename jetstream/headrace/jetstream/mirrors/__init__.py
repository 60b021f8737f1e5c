"""Streams that copy others: mirrors and sources, what they may say, and how they follow."""
