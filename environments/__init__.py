"""The launchers: functions that return tuned settings for each supported environment."""
