"""What is real-time: the application with its routes, its rooms, what pages send, and what publishes."""
