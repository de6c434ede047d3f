"""What simulated time things take, one machine a file."""
