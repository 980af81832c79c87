"""The cheapest change of allowed settings after which no request fails, and the patch that makes it."""
