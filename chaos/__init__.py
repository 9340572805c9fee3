"""What can be lost, measured: real servers, live calls, processes killed at random instants."""
