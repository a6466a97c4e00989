from fastapi.testclient import TestClient

from shop.main import create_app


def test_who_is_logged_in_is_told_who_he_is():
    with TestClient(create_app()) as client:
        assert client.get("/me").status_code == 401
        assert client.post("/login", data={"name": "ann", "password": "wrong"}).status_code == 401
        assert client.post("/login", data={"name": "ann", "password": "canary-bird of ann"}).status_code == 200
        assert client.get("/me").json() == {"user": "ann"}
