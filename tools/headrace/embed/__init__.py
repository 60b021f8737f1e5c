"""Headrace inside your own asyncio process."""
