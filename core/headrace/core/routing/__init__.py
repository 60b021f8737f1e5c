"""Who wants a message: subscriptions by subject, and what is remembered of the answers."""
