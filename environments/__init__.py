"""The launchers: which environments there are, and the settings that train them well."""
