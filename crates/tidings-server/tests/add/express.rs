//! Express applications as people write them: where the insertions go, and what is refused.

use crate::application::Application;

const PACKAGE: (&str, &str) = (
    "package.json",
    r#"{"dependencies": {"express": "4", "express-session": "1", "passport": "0", "jsonwebtoken": "9", "ws": "8"}}"#,
);
const SESSIONS: (&str, &str) =
    ("package.json", r#"{"dependencies": {"express": "4", "express-session": "1"}}"#);
const LOGIN: (&str, &str) = ("login.js", "module.exports = (req) => { req.session.userId = 7; };\n");

async fn becomes(app: &str) -> Application {
    Application::becomes(&[SESSIONS, LOGIN, ("app.js", app)], &[]).await
}

#[tokio::test]
async fn commonjs_in_one_file_with_what_answers_everything_at_its_end() {
    let application = becomes(
        "#!/usr/bin/env node\n'use strict';\nconst express = require('express'), x = 1;\nconst session = require('express-session');\n\
         +const realtime = require('./ws/server');\n\nconst PORT = process.env.PORT || 8080;\nconst app = express();\n+app.post('/tidings', realtime.webhooks);\napp.use(express.json());\n\
         app.use(session({\n  secret: '(', // )\n}));   // sessions\n+app.get('/realtime/token', realtime.token);\n\
         app.get('/', (req, res) => res.send('hi'));\napp.use((req, res) => res.sendStatus(404));\n\n\
         «const server = »app.listen(PORT, () => {\n  console.log('up');\n});\n+realtime.attachTo(server);\nconst late = require('./late');\n",
    )
    .await;
    assert!(application.read("ws/middleware/auth.js").contains("return request.session?.userId;"));
    assert!(
        application
            .read("ws/server.js")
            .contains("const { attach, Tidings } = require(\"tidings-server-sdk\");")
    );
    assert!(
        application
            .read("ws/server.js")
            .ends_with("\nmodule.exports = { realtime, token, webhooks, attachTo };\n")
    );
    assert!(application.read("tidings.toml").contains("http://127.0.0.1:8080/tidings"));
}

#[tokio::test]
async fn modules_without_semicolons_and_with_the_ends_of_lines_of_windows() {
    let text = "import express from \"express\"\nimport session from \"express-session\"\n+import * as realtime from \"./ws/server.js\"\n\n\
        const app = express()\n\nconst sessions = session({})\n+app.post(\"/tidings\", realtime.webhooks)\napp.use(sessions)\n+app.get(\"/realtime/token\", realtime.token)\n\n\
        «realtime.attachTo(»app.listen(3000)«)»\nexport const server = null\n";
    let application =
        Application::becomes(&[SESSIONS, LOGIN, ("app.js", &text.replace('\n', "\r\n"))], &[]).await;
    let server = application.read("ws/server.js");
    assert!(
        server.contains("import { readFileSync } from \"node:fs\";\r\n")
            && !server.replace("\r\n", "").contains('\n'),
        "{server}"
    );
    assert!(
        server.contains("\r\nexport const token = mintToken(") && !server.contains("module.exports"),
        "{server}"
    );
    assert!(!application.read("tidings.toml").contains('\r'));
}

#[tokio::test]
async fn typescript_with_a_server_of_its_own() {
    let app = "import http from \"node:http\";\nimport express, { type Express } from \"express\";\nimport session from \"express-session\";\n\
        import { routes } from \"./routes\";\n+import * as realtime from \"./ws/server\";\n\nexport const app: Express = express();\n\
        +app.post(\"/tidings\", realtime.webhooks);\napp.use(session({ secret: \"a\" }));\n+app.get(\"/realtime/token\", realtime.token);\napp.use(routes);\n\n\
        const server: http.Server = http.createServer(app);\n+realtime.attachTo(server);\nserver.listen(3001);\n";
    let files = [SESSIONS, ("src/routes.ts", "req.session.user_id = row.id;\n"), ("src/app.ts", app)];
    let application = Application::becomes(&files, &[]).await;
    let auth = application.read("src/ws/middleware/auth.ts");
    assert!(
        auth.contains("import { roomsOf } from \"../memberships\";")
            && auth.contains("(request: Request): unknown"),
        "{auth}"
    );
    assert!(auth.contains("return request.session?.user_id;"), "{auth}");
    assert!(application.read("tidings.toml").contains("127.0.0.1:3001/tidings"));
}

#[tokio::test]
async fn typescript_names_the_ending_where_node_wants_it() {
    let app = |import: &str| {
        format!(
            "// An application.\nimport express from 'express';\nimport session from 'express-session';\n+import * as realtime from '{import}';\n\
            const app = express();\n+app.post('/tidings', realtime.webhooks);\napp.use(session());\n+app.get('/realtime/token', realtime.token);\nconst server = app.listen(1000);\n+realtime.attachTo(server);\n"
        )
    };
    Application::becomes(&[SESSIONS, LOGIN, ("index.ts", &app("./ws/server"))], &[]).await;
    let module = r#"{"type": "module", "dependencies": {"express": "4", "express-session": "1"}}"#;
    Application::becomes(&[("package.json", module), LOGIN, ("index.ts", &app("./ws/server.js"))], &[]).await;
}

#[tokio::test]
async fn an_application_that_is_exported_and_served_elsewhere() {
    let app = "const express = require(\"express\");\nconst session = require(\"express-session\");\n+const realtime = require(\"./ws/server\");\n\
        const app = express();\n+app.post(\"/tidings\", realtime.webhooks);\napp.use(session());\n+app.get(\"/realtime/token\", realtime.token);\nmodule.exports = app;\n";
    let www = "const http = require(\"http\");\nconst app = require(\"../app\");\n+const realtime = require(\"../ws/server\");\n\
        var server = http.createServer(app);\n+realtime.attachTo(server);\nserver.listen(normalizePort(process.env.PORT || \"3000\"));\n";
    Application::becomes(&[SESSIONS, LOGIN, ("app.js", app), ("bin/www.js", www)], &[]).await;

    let factory = "const express = require(\"express\");\nconst session = require(\"express-session\");\n+const realtime = require(\"./ws/server\");\n\n\
        function createApp() {\n  const app = express();\n+  app.post(\"/tidings\", realtime.webhooks);\n  app.use(session());\n+  app.get(\"/realtime/token\", realtime.token);\n  return app;\n}\n\
        module.exports = { createApp };\n";
    let main = "const { createApp } = require(\"./src/app\");\n+const realtime = require(\"./src/ws/server\");\nconst app = createApp();\n\
        if (require.main === module)\n  «realtime.attachTo(»app.listen(80)«)»;\n";
    let application =
        Application::becomes(&[SESSIONS, LOGIN, ("src/app.js", factory), ("main.js", main)], &[]).await;
    assert!(application.read("src/ws/server.js").contains("attachTo"));
}

#[tokio::test]
async fn an_application_that_a_function_makes() {
    let app = |end: &str| {
        format!(
            "const express = require('express');\nconst session = require('express-session');\n+const realtime = require('./ws/server');\n\
            function build(config) {{\n  const app = express();\n+  app.post('/tidings', realtime.webhooks);\n  app.use(session());\n+  app.get('/realtime/token', realtime.token);\n  return app;\n}}\n{end}"
        )
    };
    for end in [
        "const server = http.createServer({ a, b }, build({ c, d }));\n+realtime.attachTo(server);\nserver.listen(3000);\n",
        "«const server = »build().listen(3000);\n+realtime.attachTo(server);\n",
        "const it = build();\n«const server = »it.listen(3000);\n+realtime.attachTo(server);\n",
    ] {
        becomes(&app(end)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_begun_in_a_callback() {
    let begin = "const express = require('express');\nconst session = require('express-session');\n+const realtime = require('./ws/server');\n\
        const app = express();\n+app.post('/tidings', realtime.webhooks);\napp.use(session());\n+app.get('/realtime/token', realtime.token);\n";
    for end in [
        "connect().then(() => {\n  «const server = »app.listen(3000);\n+  realtime.attachTo(server);\n});\n",
        "connect().then(() => «realtime.attachTo(»app.listen(3000)«)»);\n",
        "async function main() {\n  await connect();\n  const s = app.listen(3000, done);\n+  realtime.attachTo(s);\n}\n",
        "function start() {\n  return «realtime.attachTo(»app\n    .listen(3000)«)»;\n}\n",
        "module.exports = «realtime.attachTo(»app.listen(3000)«)»;\n",
        "«realtime.attachTo(»require('http').createServer(app)«)».listen(3000);\n",
        "const server = null;\n«realtime.attachTo(»app.listen(3000)«)»;\n",
    ] {
        becomes(&format!("{begin}{end}")).await;
    }
}

#[tokio::test]
async fn what_the_generator_makes() {
    let app = "var express = require('express');\nvar indexRouter = require('./routes/index');\n+var realtime = require('./ws/server');\n\n\
        var app = express();\napp.set('views', 'a');\n+app.post('/tidings', realtime.webhooks);\napp.use(require('express-session')({ secret: 'a' }));\n+app.get('/realtime/token', realtime.token);\n\
        app.use('/', indexRouter);\nmodule.exports = app;\n"
        .replace("+var", "+const");
    let www = "#!/usr/bin/env node\nvar app = require('../app');\nvar http = require('http');\n+const realtime = require('../ws/server');\n\
        var port = normalizePort(process.env.PORT || '3000');\napp.set('port', port);\n\
        var server = http.createServer(app);\n+realtime.attachTo(server);\nserver.listen(port);\nserver.on('error', onError);\n";
    let files = [SESSIONS, LOGIN, ("app.js", app.as_str()), ("bin/www", www)];
    let application = Application::becomes(&files, &[]).await;
    assert!(application.read("tidings.toml").contains("127.0.0.1:3000/tidings"));
}

#[tokio::test]
async fn who_is_there_is_read_from_the_login() {
    let app = "const express = require('express');\nconst session = require('express-session');\nconst passport = require('passport');\n\
        const app = express();\napp.use(session());\n";
    let end = "app.listen(1000);\n";
    for (login, expected) in [
        ("req.session.user = { id: row.id, name };", "request.session?.user?.id"),
        ("req.session.user = row;\nsend(req.session.user.username)", "request.session?.user?.username"),
        ("req.session.user = row.name;", "request.session?.user"),
        ("if (req.session.userId === 1) {}\nreq.session.uid = a;", "request.session?.uid"),
        ("req.session.userId = null;\nrequest.session.username = n;", "request.session?.username"),
        (
            "app.use(passport.initialize());\napp.use(passport.session());\npassport.serializeUser((user, done) => done(null, user.id));",
            "request.user?.id",
        ),
        ("app.use(passport.session());\nsend(req.user.email);", "request.user?.email"),
        ("app.use(passport.authenticate('session'));\nsend(req.user.id);", "request.user?.id"),
    ] {
        let application = Application::of(&[PACKAGE, ("app.js", &format!("{app}{login}\n{end}"))]);
        application.add(&["--yes"]).await;
        let auth = application.read("ws/middleware/auth.js");
        assert!(auth.contains(&format!("return {expected};")), "{login}: {auth}");
        let mount = application.read("app.js");
        let (before, _) = mount.split_once("app.get('/realtime/token', realtime.token);").unwrap();
        assert!(before.contains("session()"), "{mount}");
        assert_eq!(before.contains("app.use(passport."), login.contains("passport"), "{mount}");
    }
    let unread = format!("{app}req.session.user = row;\n{end}");
    let application = Application::of(&[SESSIONS, ("app.js", &unread)]);
    application
        .refused(&["--yes"], &["what the user's id is can't be read", "--user 'request.session?.user?.id'"])
        .await;
    application.add(&["--yes", "--user", "request.session?.user?.key"]).await;
    assert!(application.read("ws/middleware/auth.js").contains("return request.session?.user?.key;"));
}

#[tokio::test]
async fn a_token_that_a_middleware_verifies() {
    let auth = "const jwt = require('jsonwebtoken');\nfunction requireUser(req, res, next) {\n  req.user = jwt.verify(t(req), KEY);\n  send(req.user.sub);\n  next();\n}\n\
        module.exports = { requireUser };\n";
    let app = "const express = require('express');\nconst { requireUser } = require('./auth');\n+const realtime = require('./ws/server');\n\
        const app = express();\n+app.post('/tidings', realtime.webhooks);\napp.use(express.json());\n\n+app.get('/realtime/token', requireUser, realtime.token);\n+\n\
        app.get('/me', requireUser, (req, res) => {});\n«const server = »app.listen(3000);\n+realtime.attachTo(server);\n";
    let application = Application::becomes(&[PACKAGE, ("auth.js", auth), ("app.js", app)], &[]).await;
    assert!(application.read("ws/middleware/auth.js").contains("return request.user?.sub;"));
    for (export, import) in [
        ("module.exports = { requireUser };", "const { requireUser } = require('./middleware/auth');"),
        ("module.exports = requireUser;", "const requireUser = require('./middleware/auth');"),
    ] {
        let auth = "const jwt = require('jsonwebtoken');\nconst requireUser = handled(async (req, res, next) => {\n  req.user = jwt.verify(t(req), KEY);\n  send(req.user._id);\n  next();\n});\n";
        let app = format!(
            "const express = require('express');\nconst users = require('./users');\n+const realtime = require('./ws/server');\n+{import}\n\
            const app = express();\n\n+app.post('/tidings', realtime.webhooks);\n+app.get('/realtime/token', requireUser, realtime.token);\n+\napp.use('/users', users);\n\
            app.use(notFound);\n«const server = »app.listen(3000);\n+realtime.attachTo(server);\n"
        );
        let files = [PACKAGE, ("middleware/auth.js", &format!("{auth}{export}\n")), ("app.js", &app)];
        Application::becomes(&files, &[]).await;
    }
    let hidden = auth.replace("module.exports", "use");
    let foreign = "const express = require('express');\nconst app = express();\napp.use('/api', require('./api'));\napp.listen(1000);\n";
    let application = Application::of(&[PACKAGE, ("auth.js", &hidden), ("app.js", foreign)]);
    application.refused(&["--yes"], &["who is logged in is known in auth.js:3", "app.use it there"]).await;
    let nobody =
        Application::of(&[("package.json", r#"{"dependencies": {"express": "4"}}"#), ("app.js", foreign)]);
    nobody.refused(&["--yes"], &["no login was found", "--user 'request.session?.userId'"]).await;
    nobody.add(&["--yes", "--user", "request.get(\"x-user\")"]).await;
    assert!(
        nobody.read("app.js").contains("app.post('/tidings', realtime.webhooks);\napp.get('/realtime/token', realtime.token);\n\napp.use('/api'"),
        "{}",
        nobody.read("app.js")
    );
}

#[tokio::test]
async fn where_there_are_two_or_none_nothing_is_guessed() {
    let app = "const express = require('express');\nconst session = require('express-session');\nconst app = express();\napp.use(session());\n";
    let one = format!("{app}app.listen(3000);\n");
    let two = Application::of(&[SESSIONS, LOGIN, ("a.js", &one), ("b.js", &one)]);
    two.refused(&["--yes"], &["more than one place: a.js:3, b.js:3", "--entry FILE"]).await;
    two.refused(&["--entry", "c.js"], &["there is no c.js"]).await;
    two.add(&["--yes", "--entry", "b.js"]).await;
    assert_eq!(two.read("a.js"), one);
    let twice = format!("{app}app.listen(3000);\nhttps.createServer({{ key, cert }}, app).listen(3001);\n");
    let application = Application::of(&[SESSIONS, LOGIN, ("a.js", &twice)]);
    application.refused(&["--yes"], &["more than one place: a.js:6, a.js:5", "by hand"]).await;
    let application = Application::of(&[SESSIONS, LOGIN, ("a.js", app)]);
    application.refused(&["--yes"], &["nothing listens", "by hand"]).await;
    let class =
        "class App {\n  constructor() {\n    this.app = express();\n    this.app.use(session());\n  }\n}\n";
    let application = Application::of(&[SESSIONS, LOGIN, ("a.js", class)]);
    application.refused(&["--yes"], &["a.js:3: the application is a member of a class", "by hand"]).await;
    let apart = "const session = require('express-session');\nconst app = express();\nif (a) {\n  app.use(session());\n}\napp.listen(1);\n";
    let application = Application::of(&[SESSIONS, LOGIN, ("a.js", apart)]);
    application
        .refused(&["--yes"], &["a.js:4: the login is mounted in a block of its own", "beside `express()`"])
        .await;
    let application = Application::of(&[SESSIONS, LOGIN, ("a.js", "serve(express)\n")]);
    application.refused(&["--yes"], &["no file has an `express()`", "--entry"]).await;
    application.refused(&["--entry", "a.js"], &["a.js has no `express()`", "add it by hand"]).await;
    let field = "class App {\n  private readonly app: express.Express = express();\n  listen() {\n    this.app.listen(1);\n  }\n}\n";
    let application = Application::of(&[SESSIONS, LOGIN, ("a.ts", field)]);
    application.refused(&["--yes"], &["a.ts:2: the application is a member of a class", "by hand"]).await;
}

#[tokio::test]
async fn what_would_not_go_together_is_refused_and_all_of_it_told_at_once() {
    let app = |more: &str| {
        format!(
            "const express = require('express');\nconst session = require('express-session');\nconst app = express();\napp.use(session());\n{more}\nconst server = app.listen(3000);\n"
        )
    };
    let ws = "new WebSocketServer({ server });";
    for (more, expected) in [
        (ws, ["this WebSocket server refuses every path but its own", "noServer: true"]),
        ("app.get('/ws', page);", ["a.js:5: /ws is the application's already", "another path"]),
        ("const realtime = 1;", ["a.js:5: something is called realtime already", "call it otherwise"]),
    ] {
        let application = Application::of(&[PACKAGE, LOGIN, ("a.js", &app(more))]);
        application.refused(&["--yes"], &expected).await;
    }
    let both = app(&format!("{ws}\napp.get('/ws', page);"));
    let application = Application::of(&[PACKAGE, ("a.js", &both)]);
    application.refused(&["--yes"], &["noServer", "/ws is the application's", "--user"]).await;
    let apart =
        Application::of(&[PACKAGE, LOGIN, ("a.js", &app("new WebSocketServer({ noServer: true });"))]);
    apart.add(&["--yes"]).await;
}

#[tokio::test]
async fn an_application_that_is_exported_as_it_is_made() {
    for exported in ["module.exports = ", "exports = module.exports = ", "exports.app = "] {
        becomes(&format!(
            "const express = require('express');\nconst session = require('express-session');\n+const realtime = require('./ws/server');\n\
             const app = {exported}express();\n+app.post('/tidings', realtime.webhooks);\napp.use(session());\n+app.get('/realtime/token', realtime.token);\n\
             «const server = »app.listen(3000);\n+realtime.attachTo(server);\n"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_of_its_own_is_refused() {
    for (import, server) in [
        ("const https = require('https');", "https.createServer({ key, cert }, app)"),
        ("import https from 'node:https';", "https\n  .createServer({ key, cert }, app)"),
        ("import { createServer } from \"https\";", "createServer({ key, cert }, app)"),
        ("", "require('https').createServer({ key, cert }, app)"),
    ] {
        let app = format!(
            "{import}\nconst session = require('express-session');\nconst app = express();\napp.use(session());\n{server}.listen(443);\n"
        );
        let application = Application::of(&[SESSIONS, LOGIN, ("a.js", &app)]);
        application.refused(&["--yes"], &["it listens by TLS of its own", "tidings docs one-port"]).await;
    }
}

#[tokio::test]
async fn what_is_compiled_is_compiled_before_it_is_started() {
    let app = "import express from 'express';\nimport session from 'express-session';\nconst app = express();\napp.use(session());\napp.listen(1000);\n";
    for (file, scripts, expected) in [
        (
            "src/server.ts",
            r#"{"build": "tsc", "start": "node dist/server.js"}"#,
            "npm run build && npm start",
        ),
        (
            "src/server.ts",
            r#"{"build": "tsc", "start": "NODE_ENV=production node -r dotenv/config dist"}"#,
            "npm run build && npm start",
        ),
        ("server.ts", r#"{"build": "tsc", "start": "node server.js"}"#, "npm run build && npm start"),
        (
            "server.js",
            r#"{"build": "babel server.js -d lib", "start": "node ./lib/server"}"#,
            "npm run build && npm start",
        ),
        (
            "src/server.ts",
            r#"{"build": "tsc", "prestart": "npm run build", "start": "node dist/server.js"}"#,
            "npm start",
        ),
        ("src/server.ts", r#"{"build": "tsc", "start": "node --import tsx src/server.ts"}"#, "npm start"),
        ("src/server.ts", r#"{"build": "tsc", "start": "tsx src/server.ts"}"#, "npm start"),
        ("server.js", r#"{"build": "vite build", "start": "node server"}"#, "npm start"),
        ("server.js", r#"{"build": "vite build", "start": "node ."}"#, "npm start"),
        ("src/server.ts", r#"{"dev": "tsx src/server.ts"}"#, "npm run dev"),
        ("src/server.ts", "{}", "npx tsx src/server.ts"),
    ] {
        let package = format!(
            "{{\"scripts\": {scripts}, \"dependencies\": {{\"express\": \"4\", \"express-session\": \"1\"}}}}"
        );
        let application = Application::of(&[("package.json", &package), LOGIN, (file, app)]);
        assert_eq!(application.add(&[]).await["next"][3], expected, "{scripts}");
    }
}
