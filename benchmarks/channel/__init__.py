"""How fast, how large and how sure the channel between hub and providers is."""
