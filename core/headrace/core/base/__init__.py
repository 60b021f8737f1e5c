"""What every layer may import, and what imports nothing: errors, time, chance, messages, engine choice."""
