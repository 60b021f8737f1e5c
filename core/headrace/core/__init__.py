"""The NATS protocol and an in-memory publish/subscribe broker; knows nothing of streams."""
