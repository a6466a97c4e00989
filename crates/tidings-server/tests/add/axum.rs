//! axum applications as people write them: where the insertions go, and what is refused.

use crate::application::Application;

const MANIFEST: (&str, &str) =
    ("Cargo.toml", "[dependencies]\naxum = \"0.8\"\ntokio = \"1\"\ntower-sessions = \"0.14\"\n");
const LOGIN: &str = "async fn me(session: Session) { session.get::<i64>(\"user_id\").await; }\n";

#[tokio::test]
async fn one_file_with_its_chain_on_a_line_or_on_many() {
    let many = format!(
        "//! A program.\nuse axum::Router;\nuse tower_sessions::SessionManagerLayer;\n\nmod login;\n+mod realtime;\nmod shop;\n\n{LOGIN}\
         fn main() {{\n    let session_layer = SessionManagerLayer::new(store);\n    let app = Router::new()\n        .route(\"/\", get(me))\n\
         +        .merge(realtime::routes())\n        .layer(session_layer)\n        .layer(cors);\n    bind(\"0.0.0.0:8080\");\n}}\n"
    );
    let application = Application::becomes(&[MANIFEST, ("src/main.rs", &many)], &[]).await;
    assert!(
        application
            .read("src/realtime/auth.rs")
            .contains("let user = session.get::<i64>(\"user_id\").await?;")
    );
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        application.read("Cargo.toml"),
        format!(
            "[dependencies]\naxum = \"0.8\"\nserde_json = \"1\"\ntidings = \"{version}\"\ntokio = \"1\"\ntower-sessions = \"0.14\"\n"
        )
    );
    let one = format!(
        "+mod realtime;\n+\nuse axum::Router;\n{LOGIN}fn app() -> Router {{\n    let sessions = SessionManagerLayer::new(s);\n\
         \x20   Router::new().route(\"/\", get(me))«.merge(realtime::routes())».layer(sessions)\n}}\n"
    );
    Application::becomes(&[MANIFEST, ("src/lib.rs", &one)], &[]).await;
}

#[tokio::test]
async fn a_router_in_a_module_of_its_own() {
    let router = format!(
        "{LOGIN}pub fn router(layer: SessionManagerLayer<Store>) -> Router {{\r\n    Router::new()\r\n+        .merge(crate::realtime::routes())\r\n        .layer(layer)\r\n}}\r\n"
    );
    let main = "mod web;\n\nfn main() {}\n";
    let application = Application::of(&[
        MANIFEST,
        ("src/web/router.rs", &crate::application::before(&router)),
        ("src/main.rs", main),
    ]);
    application.add(&["--yes", "--redis"]).await;
    assert_eq!(application.read("src/web/router.rs"), crate::application::after(&router));
    assert_eq!(application.read("src/main.rs"), "mod realtime;\nmod web;\n\nfn main() {}\n");
    assert!(application.read("Cargo.toml").contains("features = [\"redis\"]"));
    assert!(application.read("src/realtime/mod.rs").contains("Redis::new(&redis)?"));
    assert_eq!(application.read(".gitignore"), "tidings.secret\n");
}

#[tokio::test]
async fn what_is_not_known_is_refused_with_what_decides_it() {
    let main = |login: &str| {
        format!(
            "{login}fn app() {{\n    let l = SessionManagerLayer::new(s);\n    Router::new().layer(l);\n}}\n"
        )
    };
    let old = ("Cargo.toml", "[dependencies]\naxum = \"0.7\"\ntower-sessions = \"0.12\"\n");
    let shared = ("Cargo.toml", "[dependencies]\naxum.workspace = true\ntower-sessions = \"0.14\"\n");
    let login = ("Cargo.toml", "[dependencies]\naxum = \"0.8\"\naxum-login = \"0.18\"\n");
    for (manifest, text, expected) in [
        (old, main(LOGIN), ["axum 0.7, and the crate tidings is for 0.8", "tidings docs one-port"]),
        (shared, main(LOGIN), ["which axum it is, is not said there", "say the version there"]),
        (login, main(LOGIN), ["tower-sessions is not among the dependencies", "add it in the version"]),
        (
            MANIFEST,
            main("fn me() { session.get::<User>(\"user\"); }\n"),
            ["keeps a User as \"user\"", "--user"],
        ),
        (MANIFEST, main(""), ["what the session keeps of a user can't be read", "--user"]),
        (
            MANIFEST,
            "fn main() { Router::new(); }\n".to_owned(),
            ["no router has a layer of tower-sessions", "by hand"],
        ),
        (
            MANIFEST,
            main(&format!("{LOGIN}mod realtime;\n")),
            ["there is a module realtime already", "call it otherwise"],
        ),
        (
            MANIFEST,
            main(&format!("{LOGIN}const P: &str = \"/ws\";\n")),
            ["this path is the application's already", "another path"],
        ),
    ] {
        Application::of(&[manifest, ("src/main.rs", &text)]).refused(&["--yes"], &expected).await;
    }
    let application = Application::of(&[MANIFEST, ("src/main.rs", &main(""))]);
    application.add(&["--yes", "--user", "session.get::<User>(\"user\").await?.map(|user| user.id)"]).await;
    assert!(application.read("src/realtime/auth.rs").contains("?.map(|user| user.id);"));
}
