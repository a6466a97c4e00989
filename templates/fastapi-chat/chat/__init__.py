"""The application that was there before: users, channels and messages."""
