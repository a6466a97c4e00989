import pytest
from fastapi.testclient import TestClient

from app.main import app


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client
    assert app.state.ready is False


def log_in(client, username, password):
    return client.post("/token", data={"username": username, "password": password})


def bearer(client, username="johndoe", password="canary-bird of john"):
    return {"Authorization": f"Bearer {log_in(client, username, password).json()['access_token']}"}


def test_nobody_gets_in_without_the_password(client):
    assert log_in(client, "johndoe", "no").status_code == 401
    assert client.get("/users/me").status_code == 401
    assert client.get("/users/me", headers={"Authorization": "Bearer none"}).status_code == 401


def test_who_is_logged_in_is_told_who_he_is(client):
    me = client.get("/users/me", headers=bearer(client))
    assert me.json()["username"] == "johndoe"
    disabled = client.get("/users/me", headers=bearer(client, "alice", "canary-bird of alice"))
    assert disabled.status_code == 400


def test_everybody_sees_his_own_items(client):
    headers = bearer(client)
    assert client.post("/items/", json={"title": "Plumbus", "price": 3}, headers=headers).status_code == 201
    assert [item["title"] for item in client.get("/items/", headers=headers).json()] == ["Plumbus"]


def test_the_lifespan_runs_and_the_document_is_as_it_was(client):
    assert client.get("/health").json() == {"ready": True}
    assert sorted(client.get("/openapi.json").json()["paths"]) == ["/health", "/items/", "/token", "/users/me"]


def test_without_the_lifespan_it_answers_too():
    assert TestClient(app).get("/users/me").status_code == 401
