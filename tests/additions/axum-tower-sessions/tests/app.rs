use axum::body::Body;
use axum::http::{header, Request, StatusCode};
use axum::Router;
use guestbook::{app, AppState};
use http_body_util::BodyExt;
use serde_json::{json, Value};
use tower::ServiceExt;

async fn send(app: &Router, method: &str, path: &str, cookie: &str, body: Value) -> (StatusCode, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::COOKIE, cookie)
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let cookie = response.headers().get(header::SET_COOKIE).map_or("", |value| value.to_str().unwrap());
    let cookie = cookie.split(';').next().unwrap().to_string();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, cookie, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn nobody_signs_without_a_login() {
    let app = app(AppState::default());
    let (status, ..) = send(&app, "POST", "/entries", "", json!({ "text": "hi" })).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let wrong = json!({ "name": "ann", "password": "no" });
    let (status, ..) = send(&app, "POST", "/login", "", wrong).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_is_logged_in_signs_until_the_logout() {
    let app = app(AppState::default());
    let right = json!({ "name": "ann", "password": "canary-bird of ann" });
    let (status, cookie, _) = send(&app, "POST", "/login", "", right).await;
    assert_eq!(status, StatusCode::OK);
    let (_, _, me) = send(&app, "GET", "/me", &cookie, Value::Null).await;
    assert_eq!(me, r#"{"id":1}"#);
    let (status, ..) = send(&app, "POST", "/entries", &cookie, json!({ "text": "hi" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, _, entries) = send(&app, "GET", "/entries", "", Value::Null).await;
    assert_eq!(entries, r#"[{"by":1,"text":"hi"}]"#);
    send(&app, "POST", "/logout", &cookie, Value::Null).await;
    let (status, ..) = send(&app, "GET", "/me", &cookie, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let app = app(AppState::default());
    let (status, _, body) = send(&app, "GET", "/nothing", "", Value::Null).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, "nothing here"));
}
