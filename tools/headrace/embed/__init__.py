"""Headrace inside your own program."""

from headrace.embed.server import Server

__all__ = ["Server"]
