"""What is real-time: the application with its routes, what publishes, and the way in for other processes."""
