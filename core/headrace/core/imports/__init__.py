"""What accounts import from each other: which imports are allowed, and the services behind them."""
