"""One module for each subcommand: parses, calls and prints; it computes nothing."""
