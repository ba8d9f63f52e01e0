"""What a run is: every setting, schedules, and the registry of launchers."""
