"""The engine: parses, routes and writes; plain or compiled behind one interface (`interface.py`)."""
