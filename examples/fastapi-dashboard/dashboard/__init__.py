"""A live dashboard on a FastAPI application: `main` serves the page and the viewers, `pump` publishes what they see."""

ROOM = "board"
EVENT = "sample"
