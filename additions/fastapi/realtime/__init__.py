"""What is real-time: who may connect, the socket on the application's port, and what it tells its rooms."""
