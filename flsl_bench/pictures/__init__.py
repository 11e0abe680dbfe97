"""Pictures of results, since people look before they read."""
