"""NATS tokens (JWT): who signed what about whom."""
