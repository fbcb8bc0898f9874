"""Small networks and tasks that structural pruning is tried on."""
