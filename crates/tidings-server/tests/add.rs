//! `tidings detect` and `tidings add` on applications of many shapes: what is changed, what is refused, and that nothing else is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

#[path = "add/application.rs"]
mod application;
#[path = "add/axum.rs"]
mod axum;
#[path = "add/express.rs"]
mod express;
#[path = "add/fastapi.rs"]
mod fastapi;
mod server;

use application::{Application, told};
use serde_json::json;

const PACKAGE: &str = r#"{"dependencies": {"express": "4", "express-session": "1"}}"#;
const APP: &str = "const express = require('express');\nconst session = require('express-session');\n\nconst app = express();\n\
    app.use(session({}));\napp.get('/', (req, res) => { req.session.userId = 1; });\napp.listen(3000);\n";

#[tokio::test]
async fn what_was_found_is_told_to_people_and_to_programs_and_what_was_not_too() {
    let application = Application::of(&[
        ("package.json", PACKAGE),
        ("app.js", APP),
        ("nginx.conf", "proxy_pass http://127.0.0.1:3000;\n"),
        ("ecosystem.config.js", "module.exports = { apps: [{\n  instances: 4,\n}] };\n"),
    ]);
    let json = told(&application.run(&["detect", ".", "--json"]).await);
    assert_eq!(
        json,
        json!({
            "framework": {"name": "express", "version": "4", "supported": true, "file": "package.json", "line": 1},
            "others": [],
            "language": "javascript",
            "modules": "commonjs",
            "entry": {"file": "app.js", "line": 4},
            "listens": {"port": 3000, "file": "app.js", "line": 7},
            "auth": {"kind": "express-session", "user": "request.session?.userId", "file": "app.js", "line": 5},
            "proxy": [{"kind": "nginx", "told": "http://127.0.0.1:3000", "file": "nginx.conf", "line": 1}],
            "workers": [{"kind": "pm2", "told": "4", "file": "ecosystem.config.js", "line": 2}],
            "sockets": [],
            "tidings": [],
        })
    );
    let text = application.run(&["detect"]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    for line in [
        "framework  express 4 (package.json:1)",
        "entry      app.js:4",
        "auth       express-session (app.js:5); the user's id is request.session?.userId",
        "workers    pm2 4 (ecosystem.config.js:2)",
        "sockets    none was found",
        "tidings    not there yet",
    ] {
        assert!(text.lines().any(|said| said == line), "no {line:?} in {text}");
    }
    let nothing = told(&Application::of(&[("a.txt", "")]).run(&["detect", "--json"]).await);
    assert!(
        nothing["framework"].is_null() && nothing["auth"].is_null() && nothing["proxy"] == json!([]),
        "{nothing}"
    );
}

#[tokio::test]
async fn without_yes_the_diff_is_shown_and_with_it_everything_is_written_once() {
    let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    let before = application.tree();
    let shown = application.run(&["add"]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("--- a/app.js\n+++ b/app.js\n@@"), "{text}");
    assert!(text.contains("--- /dev/null\n+++ b/ws/server.js\n@@ -0,0 +1,"), "{text}");
    assert!(text.ends_with("nothing was written: --yes writes it (2 files changed, 12 new)\n"), "{text}");
    assert_eq!(application.tree(), before);

    let written = application.run(&["add", "--yes"]).await;
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let text = String::from_utf8(written.stdout).unwrap();
    for line in
        ["  npm install", "  node app.js", "  tidings doctor http://127.0.0.1:3000 --config tidings.toml"]
    {
        assert!(text.lines().any(|said| said.starts_with(line)), "no {line:?} in {text}");
    }
    let after = application.tree();
    assert_eq!(after.keys().filter(|path| !before.contains_key(*path)).count(), 12);
    assert_eq!(after[".gitignore"], "tidings.secret\ntidings-outbox\n");

    let again = application.run(&["add", "--yes"]).await;
    assert!(again.status.success());
    assert!(String::from_utf8(again.stdout).unwrap().starts_with("Tidings is there already: package.json:1"));
    assert_eq!(application.tree(), after);
}

#[tokio::test]
async fn what_is_left_to_its_owner_is_said() {
    let application = Application::of(&[
        ("package.json", PACKAGE),
        ("app.js", APP),
        ("nginx.conf", "proxy_pass http://127.0.0.1:3000;\n"),
        ("Procfile", "web: npx pm2-runtime -w 4 app.js\n"),
    ]);
    let told = application.add(&["--yes"]).await;
    let left: Vec<_> = told["left"].as_array().unwrap().iter().map(|left| left.as_str().unwrap()).collect();
    let begin = |words: &str| left.iter().any(|left| left.starts_with(words));
    assert!(
        begin("roomsOf in ws/memberships.js puts everybody who is logged in into room:lobby"),
        "{left:?}"
    );
    assert!(begin("nginx (nginx.conf:1) has to pass the upgrade of /ws"), "{left:?}");
    assert!(begin("workers (Procfile:1): the RoomManager knows the sockets of its own process"), "{left:?}");
    let alone = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    assert_eq!(alone.add(&[]).await["left"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_diff_is_one_that_git_applies_and_what_it_makes_is_what_is_written() {
    let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    let diff = application.add(&[]).await["diff"].as_str().unwrap().to_owned();
    let applied = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    applied.git_apply(&diff).await;
    application.add(&["--yes"]).await;
    assert_eq!(applied.tree(), application.tree());
}

#[tokio::test]
async fn what_is_written_is_a_configuration_that_is_right_also_with_redis() {
    for options in [&["--yes"][..], &["--yes", "--redis"]] {
        let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
        application.add(options).await;
        assert_eq!(application.read("tidings.toml").contains("[broker]"), options.len() == 2);
        application.write("tidings.secret", "canary-bird of the test of tidings add");
        let checked = application.run(&["config", "check"]).await;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[tokio::test]
async fn packages_go_with_the_application() {
    let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    application.refused(&["--sdk-from", "."], &["there is no tidings-client-", "npm pack"]).await;
    application.write("packed/tidings-client-1.0.0.tgz", "one");
    application.write("packed/tidings-server-sdk-1.0.0.tgz", "two");
    let told = application.add(&["--sdk-from", "packed", "--yes"]).await;
    assert!(told["new"].as_array().unwrap().contains(&json!("sdks/tidings-client-1.0.0.tgz")), "{told}");
    assert_eq!(application.read("sdks/tidings-server-sdk-1.0.0.tgz"), "two");
    assert!(
        application
            .read("package.json")
            .contains(r#""tidings-client": "file:sdks/tidings-client-1.0.0.tgz""#)
    );
}

#[tokio::test]
async fn an_image_is_told_what_has_to_be_there_before_the_packages_are_installed() {
    let packed = tempfile::tempdir().unwrap();
    for package in ["tidings-client-1.0.0.tgz", "tidings-server-sdk-1.0.0.tgz"] {
        std::fs::write(packed.path().join(package), package).unwrap();
    }
    let from = ["--sdk-from", packed.path().to_str().unwrap()];
    for (image, expected) in [
        ("FROM node:22\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\n", Some("Dockerfile:3")),
        (
            "FROM node:22\nCOPY package*.json ./\nRUN --mount=type=cache,target=/root/.npm \\\n    npm ci\n",
            Some("Dockerfile:3"),
        ),
        ("FROM node:22\nCOPY --chown=node . .\nRUN npm ci\n", None),
        ("FROM nginx\nCOPY page /usr/share/nginx/html\n", None),
    ] {
        let files = [("package.json", PACKAGE), ("app.js", APP), ("Dockerfile", image)];
        let left = |told: &serde_json::Value| {
            let left = told["left"].as_array().unwrap().clone();
            left.iter().find_map(|left| {
                left.as_str()?
                    .split_once(" installs the packages: ")
                    .map(|(place, words)| (place.to_owned(), words.to_owned()))
            })
        };
        let told = left(&Application::of(&files).add(&from).await);
        assert_eq!(told.as_ref().map(|(place, _)| place.as_str()), expected, "{image}");
        assert!(told.is_none_or(|(_, words)| words.starts_with("COPY sdks ./sdks has to stand before it")));
        assert_eq!(left(&Application::of(&files).add(&[]).await), None);
    }
}

#[tokio::test]
async fn who_the_user_is_can_not_be_nothing() {
    let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    for nothing in ["", " "] {
        application.refused(&["--yes", "--user", nothing], &["--user is empty"]).await;
    }
}

#[tokio::test]
async fn a_mark_at_the_beginning_of_the_packages_is_kept() {
    let package = format!("\u{feff}{PACKAGE}");
    let application = Application::of(&[("package.json", &package), ("app.js", APP)]);
    application.add(&["--yes"]).await;
    assert!(application.read("package.json").starts_with("\u{feff}{"));
}

#[tokio::test]
async fn what_is_not_known_is_left_alone_with_what_to_do() {
    let nest = r#"{"dependencies": {"@nestjs/core": "10", "express": "4"}}"#;
    let fastify = r#"{"dependencies": {"fastify": "5"}}"#;
    for (files, expected) in [
        (
            &[("requirements.txt", "Django==5.1\n"), ("manage.py", "import django\n")][..],
            ["django is none of", "tidings docs http-api"],
        ),
        (&[("package.json", nest)], ["nestjs is none of", "tidings docs webhooks"]),
        (&[("package.json", fastify)], ["fastify is none of", "a JWT and a POST"]),
        (&[("go.mod", "module a\n")], ["go is none of", "express, fastapi, axum"]),
        (&[("README.md", "# a\n")], ["no framework was found", "tidings new"]),
        (
            &[("package.json", PACKAGE), ("requirements.txt", "fastapi\n")],
            ["more than one framework: express, fastapi", "name the folder"],
        ),
    ] {
        Application::of(files).refused(&["--yes"], &expected).await;
    }
    let nowhere = Application::of(&[]).run(&["add", "nowhere"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
}

#[tokio::test]
async fn no_file_of_the_applications_is_overwritten_and_none_elsewhere_is_touched() {
    for (path, text) in [("ws/server.js", "// mine"), ("schemas/nothing.json", "{}"), ("ws/rooms.js", "")] {
        let files = [("package.json", PACKAGE), ("app.js", APP), (path, text)];
        Application::of(&files)
            .refused(&["--yes"], &[&format!("{path} is there already"), "nothing is overwritten"])
            .await;
    }
    let application = Application::of(&[("package.json", PACKAGE), ("app.js", APP)]);
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), application.path().join("ws")).unwrap();
    application.refused(&["--yes"], &["is no folder", "nothing was written"]).await;
    assert!(std::fs::read_dir(elsewhere.path()).unwrap().next().is_none());
}
