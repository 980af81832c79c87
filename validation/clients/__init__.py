"""Load clients. Only the standard library: the folder is copied beside the cluster and runs there."""
