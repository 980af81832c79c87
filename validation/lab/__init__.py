"""A real kind cluster on this machine: brought up, looked at, taken down."""
