"""States of environments as plain data: saved with a checkpoint, and set again to the bit."""
