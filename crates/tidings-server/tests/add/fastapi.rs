//! FastAPI applications as people write them: where the insertions go, and what is refused.

use crate::application::Application;

const REQUIREMENTS: (&str, &str) = ("requirements.txt", "fastapi==0.115\n");
const LOGIN: &str = "async def get_current_user(token: Annotated[str, Depends(oauth2_scheme)]) -> User:\n    return decode(token)\n";
const USER: &str = "class User(BaseModel):\n    username: str\n    email: str\n";

#[tokio::test]
async fn one_file_as_in_the_tutorial() {
    let main = "from typing import Annotated\n\nfrom fastapi import (\n    Depends,\n    FastAPI,\n)\n+from realtime import server as realtime\n\n\
        oauth2_scheme = OAuth2PasswordBearer(tokenUrl=\"token\")\napp = FastAPI()\n\n\nclass User(BaseModel):\n    username: str\n\n\n\
        async def get_current_user(token: Annotated[str, Depends(oauth2_scheme)]):\n    return decode(token)\n\n\n\
        async def get_current_active_user(\n    current_user: Annotated[User, Depends(get_current_user)],\n):\n    return current_user\n\n\n\
        @app.get(\"/users/me/\")\nasync def me(current_user: Annotated[User, Depends(get_current_active_user)]):\n    return current_user\n\
        +\n+\n+realtime.mount(app, get_current_active_user)\n";
    let application = Application::becomes(&[REQUIREMENTS, ("main.py", main)], &[]).await;
    assert!(application.read("realtime/server.py").contains("return str(user.username)"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        application.read("requirements.txt"),
        format!("fastapi==0.115\ntidings-client[server]=={version}\n")
    );
    assert!(application.read("tidings.toml").contains("127.0.0.1:8000/tidings"));
}

#[tokio::test]
async fn a_package_whose_login_is_in_a_file_of_its_own_and_what_answers_everything() {
    let main = "from fastapi import FastAPI\nfrom .api import router\n+from .realtime import server as realtime\n+from .auth import get_current_user\n\n\
        app = FastAPI(\n    title=\"a\",\n)\napp.include_router(router)\n+realtime.mount(app, get_current_user)\n\
        app.mount(\"/\", StaticFiles(directory=\"page\", html=True), name=\"page\")\n\nif __name__ == \"__main__\":\n    uvicorn.run(app, port=9000)\n";
    let auth = format!("{USER}\n\n{LOGIN}");
    let files = [
        REQUIREMENTS,
        ("app/__init__.py", ""),
        ("app/auth.py", &auth),
        ("app/api.py", "x = Depends(get_current_user)\n"),
        ("app/main.py", main),
    ];
    let application = Application::becomes(&files, &[]).await;
    assert!(application.read("app/realtime/server.py").contains("from .broadcaster import Broadcaster"));
    assert!(application.read("tidings.toml").contains("127.0.0.1:9000/tidings"));
}

#[tokio::test]
async fn a_factory_and_a_file_that_is_run() {
    let factory = "from fastapi import Depends, FastAPI\nfrom app.deps import get_current_user\n+from app.realtime import server as realtime\n\n\n\
        def create_app() -> FastAPI:\n    app = FastAPI()\n\n    @app.get(\"/\")\n    def home(user=Depends(get_current_user)):\n        return user\n\n\
        +    realtime.mount(app, get_current_user)\n    return app\n";
    let deps = format!("from app.models import User\n\n\n{LOGIN}");
    let models = "class Base(SQLModel):\n    id: Optional[int] = None\n\n\nclass User(Base, table=True):\n    email: str\n";
    let files = [REQUIREMENTS, ("app/deps.py", &deps), ("app/models.py", models), ("app/main.py", factory)];
    let application = Application::becomes(&files, &[]).await;
    assert!(application.read("app/realtime/server.py").contains("return str(user.id)"));

    let run = format!(
        "import uvicorn\nfrom fastapi import Depends, FastAPI\n+from realtime import server as realtime\n\napp: FastAPI = FastAPI()\n{USER}\n\n{LOGIN}\n\nx = Depends(get_current_user)\n\n\n\
         +realtime.mount(app, get_current_user)\n+\n+\nif __name__ == \"__main__\":\n    uvicorn.run(app)\n"
    );
    let windows = run.replace('\n', "\r\n");
    let application = Application::becomes(&[REQUIREMENTS, ("main.py", &windows)], &[]).await;
    assert!(application.read("realtime/rooms.py").contains("\r\n"));
}

#[tokio::test]
async fn what_the_dependency_gives_says_what_the_id_is() {
    let main = |login: &str| format!("from fastapi import Depends, FastAPI\napp = FastAPI()\n{login}\n");
    for (login, expected) in [
        ("def get_current_user() -> str:\n    return a\nx = Depends(get_current_user)", "str(user)"),
        (
            "def get_current_user() -> dict[str, Any]:\n    return {\"sub\": a}\nx = Depends(get_current_user)",
            "str(user[\"sub\"])",
        ),
        (
            "class U:\n    uid = 1\ndef get_current_user() -> \"Optional[models.U]\":\n    pass\nx = Depends(get_current_user)",
            "str(user.uid)",
        ),
        (
            "class U:\n    email: str\ndef current_user():\n    pass\ndef f(u: U = Depends(current_user)): pass",
            "str(user.email)",
        ),
        (
            "class User(SQLAlchemyBaseUserTableUUID, Base):\n    pass\ncurrent_active_user = users.current_user(active=True)\ndef f(user: User = Depends(current_active_user)): pass",
            "str(user.id)",
        ),
    ] {
        let application = Application::of(&[REQUIREMENTS, ("main.py", &main(login))]);
        application.add(&["--yes"]).await;
        let server = application.read("realtime/server.py");
        assert!(server.contains(&format!("return {expected}")), "{login}: {server}");
    }
    let unread = "def get_current_user():\n    return load()\nx = [Depends(get_current_user)]";
    let application = Application::of(&[REQUIREMENTS, ("main.py", &main(unread))]);
    application
        .refused(&["--yes"], &["what get_current_user gives has no type", "--user 'user.username'"])
        .await;
    application.add(&["--yes", "--user", "user.key"]).await;
    assert!(application.read("realtime/server.py").contains("return str(user.key)"));
}

#[tokio::test]
async fn without_a_dependency_or_with_two_it_is_said_and_not_guessed() {
    let two = "from fastapi import Depends, FastAPI\napp = FastAPI()\ndef current_user() -> str: pass\ndef require_user() -> str: pass\n\
        x = [Depends(current_user), Depends(require_user)]\n";
    let application = Application::of(&[REQUIREMENTS, ("main.py", two)]);
    application
        .refused(
            &["--yes"],
            &[
                "more than one dependency gives a user: current_user (main.py:3), require_user (main.py:4)",
                "--user",
            ],
        )
        .await;
    application.add(&["--yes", "--user", "require_user: user"]).await;
    assert!(application.read("main.py").ends_with("realtime.mount(app, require_user)\n"));

    let none = "from fastapi import FastAPI\napp = FastAPI()\napp.add_middleware(SessionMiddleware, secret_key=key)\n";
    let application = Application::of(&[REQUIREMENTS, ("main.py", none)]);
    application.refused(&["--yes"], &["no login was found", "an expression of `request`"]).await;
    application.add(&["--yes", "--user", "request.session.get(\"user\")"]).await;
    assert!(application.read("main.py").ends_with("\nrealtime.mount(app)\n"));
    assert!(application.read("realtime/server.py").contains("    return request.session.get(\"user\")\n"));
}

#[tokio::test]
async fn what_would_not_go_together_is_refused() {
    let main = |more: &str| {
        format!(
            "from fastapi import Depends, FastAPI\napp = FastAPI()\n{more}\n{USER}{LOGIN}x = Depends(get_current_user)\n"
        )
    };
    for (more, expected) in [
        (
            "@app.websocket(\"/ws\")\nasync def ws(w): pass",
            ["/ws is the application's already", "another path"],
        ),
        ("realtime = 1", ["something is called realtime already", "call it otherwise"]),
        (
            "app.mount(\"/\", StaticFiles())",
            ["answers every path, and stands before the dependency", "to the end of the file"],
        ),
        (
            "other = FastAPI()",
            ["FastAPI() is called in more than one place: main.py:2, main.py:3", "add it by hand"],
        ),
    ] {
        Application::of(&[REQUIREMENTS, ("main.py", &main(more))]).refused(&["--yes"], &expected).await;
    }
    let two = [REQUIREMENTS, ("a.py", &main("")), ("b.py", &main(""))];
    Application::of(&two).refused(&["--yes"], &["a.py:2, b.py:2", "--entry FILE"]).await;
    let none = [REQUIREMENTS, ("a.py", "app = make()\n")];
    Application::of(&none).refused(&["--yes"], &["no file has a `FastAPI()`", "--entry FILE"]).await;
    Application::of(&none)
        .refused(&["--entry", "a.py"], &["a.py has no `FastAPI()`", "add it by hand"])
        .await;
    Application::of(&[REQUIREMENTS, ("main.py", &main(""))])
        .refused(&["--yes", "--user", "get_current_user: "], &["names no dependency, or no id"])
        .await;
    let locked = [("requirements.txt", "fastapi==1 --hash=sha256:0\n"), ("main.py", &main(""))];
    Application::of(&locked).refused(&["--yes"], &["has the hashes of its packages"]).await;
}

/// Without what is around it: what `uvicorn`, or the file itself, is started as.
async fn started(main: &str, files: &[(&str, &str)]) -> String {
    let login = format!("{USER}{LOGIN}x = Depends(get_current_user)\n");
    let made = files.iter().map(|(path, text)| (*path, text.replace("LOGIN", &login))).collect::<Vec<_>>();
    let files: Vec<_> =
        made.iter().map(|(path, text)| (*path, text.as_str())).chain([REQUIREMENTS]).collect();
    let told = Application::of(&files).add(&["--yes", "--entry", main]).await;
    let next = told["next"].as_array().unwrap().iter().map(|next| next.as_str().unwrap());
    next.filter(|next| next.starts_with("uvicorn") || next.starts_with("python")).collect()
}

#[tokio::test]
async fn what_starts_it_is_what_its_own_files_say() {
    let app = "from fastapi import Depends, FastAPI\napp = fastapi.FastAPI()\nLOGIN";
    let main = "\nif __name__ == \"__main__\":\n    uvicorn.run(app, port=9000)\n";
    let function = "\ndef start():\n    uvicorn.run(app, port=9000)\n";
    let factory = "from fastapi import FastAPI\nLOGIN\ndef create_app() -> FastAPI:\n    app = FastAPI()\n    return app\n";
    let of = |path: &'static str, parts: &[&str]| (path, parts.concat());
    for (entry, files, expected) in [
        ("main.py", vec![of("main.py", &[app])], "uvicorn main:app"),
        ("main.py", vec![of("main.py", &[app, main])], "python main.py"),
        ("main.py", vec![of("main.py", &[app, function])], "uvicorn main:app --port 9000"),
        ("f/main.py", vec![of("f/main.py", &["from .a import b\n", app, main])], "python -m f.main"),
        (
            "f/main.py",
            vec![of("f/main.py", &["from .a import b\n", app, function])],
            "uvicorn f.main:app --port 9000",
        ),
        (
            "f/main.py",
            vec![of("f/main.py", &["from f.a import b\n", factory])],
            "uvicorn --factory f.main:create_app",
        ),
        (
            "f/app.py",
            vec![
                of("f/app.py", &["from .a import b\n", factory]),
                of("f/main.py", &["from .app import create_app\n\napp: FastAPI = create_app()\n"]),
            ],
            "uvicorn f.main:app",
        ),
        (
            "src/shop/main.py",
            vec![of("src/shop/main.py", &["from shop.a import b\n", factory])],
            "uvicorn --factory shop.main:create_app --app-dir src",
        ),
        (
            "back/main.py",
            vec![of("back/main.py", &[factory])],
            "uvicorn --factory main:create_app --app-dir back",
        ),
    ] {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(started(entry, &files).await.split("  ").next().unwrap(), expected, "{files:?}");
    }
}

const PYPROJECT: (&str, &str) = (
    "pyproject.toml",
    "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n[project]\nname = \"shop\"\nversion = \"1\"\ndependencies = [\"fastapi\"]\n",
);

#[tokio::test]
async fn where_setuptools_finds_the_packages_nothing_new_is_beside_them() {
    let main = format!(
        "from fastapi import Depends, FastAPI\nfrom .a import b\napp = FastAPI()\n{USER}{LOGIN}x = Depends(get_current_user)\n"
    );
    let image = ("Dockerfile", "FROM python:3.12\nCOPY pyproject.toml .\nRUN pip install .\nCOPY app app\n");
    let application = Application::of(&[PYPROJECT, ("app/__init__.py", ""), ("app/main.py", &main), image]);
    let packed = tempfile::tempdir().unwrap();
    std::fs::write(packed.path().join("tidings_client-1.0.0-py3-none-any.whl"), "a wheel").unwrap();
    let packed = packed.path().to_str().unwrap();
    let told = application.add(&["--yes", "--sdk-from", packed]).await;
    let top = |new: &&serde_json::Value| !new.as_str().unwrap().starts_with("app/");
    let at_the_top: Vec<_> = told["new"].as_array().unwrap().iter().filter(top).collect();
    assert_eq!(at_the_top, [".gitignore", "tidings.toml"]);
    assert!(application.read("tidings.toml").contains("schema_file = \"app/realtime/schemas/nothing.json\""));
    assert_eq!(
        told["next"][0],
        "pip install './app/realtime/sdks/tidings_client-1.0.0-py3-none-any.whl[server]'"
    );
    let wheel = "app/realtime/sdks/tidings_client-1.0.0-py3-none-any.whl";
    let before = format!(
        "COPY app/realtime/sdks ./app/realtime/sdks and RUN pip install './{wheel}[server]' has to stand before it"
    );
    assert_eq!(told["left"][1], format!("Dockerfile:3 installs the packages: {before}"));
    application.write("tidings.secret", "canary-bird of the test of tidings add");
    let checked = application.run(&["config", "check"]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let main = main.replace("from .a import b\n", "");
    let alone = Application::of(&[PYPROJECT, ("main.py", &main)]);
    let told = alone.add(&["--yes"]).await;
    assert!(told["left"][1].as_str().unwrap().contains("that is realtime/ now, without main.py"), "{told}");
    assert!(!alone.path().join("schemas").exists());
    let beside = Application::of(&[PYPROJECT, ("main.py", &main), ("models/a.py", "")]);
    beside.refused(&["--yes"], &["refuses realtime/ beside models/", "[tool.setuptools]"]).await;
    let named = format!("{}\n[tool.setuptools]\npackages = [\"models\"]\n", PYPROJECT.1);
    let named = Application::of(&[("pyproject.toml", &named), ("main.py", &main), ("models/a.py", "")]);
    let told = named.add(&["--yes"]).await;
    assert!(named.path().join("schemas").exists());
    let among = "realtime and realtime.handlers have to be among them";
    assert!(told["left"][1].as_str().unwrap().contains(among), "{told}");
    // One that is not looked into is one of them all the same.
    let migrated = Application::of(&[PYPROJECT, ("main.py", &main), ("migrations/env.py", "")]);
    migrated.refused(&["--yes"], &["refuses realtime/ beside migrations/", "[tool.setuptools]"]).await;
}

#[tokio::test]
async fn a_project_of_uv_is_told_of_uv_alone() {
    let main = format!(
        "from fastapi import Depends, FastAPI\n{USER}{LOGIN}x = Depends(get_current_user)\napp = FastAPI()\n"
    );
    let project = "[project]\nname = \"shop\"\nversion = \"1\"\ndependencies = [\"fastapi\"]\n";
    let files = [("pyproject.toml", project), ("uv.lock", "version = 1\n"), ("main.py", main.as_str())];
    let packed = tempfile::tempdir().unwrap();
    std::fs::write(packed.path().join("tidings_client-1.0.0-py3-none-any.whl"), "a wheel").unwrap();
    let from = ["--yes", "--sdk-from", packed.path().to_str().unwrap()];
    let of_wheel = "uv add './sdks/tidings_client-1.0.0-py3-none-any.whl[server]'";
    for (arguments, install) in [(&from[..1], "uv sync"), (&from[..], of_wheel)] {
        let told = Application::of(&files).add(arguments).await;
        let next = told["next"].as_array().unwrap();
        assert_eq!(next[0], install);
        assert!(
            next.iter().any(|command| command.as_str().unwrap().starts_with("uv run uvicorn main:app")),
            "{told}"
        );
        assert!(!told["next"].to_string().contains("pip "), "{told}");
    }
}

#[tokio::test]
async fn a_middleware_that_stays_in_front_is_said() {
    let main = format!(
        "from fastapi import Depends, FastAPI\n{USER}{LOGIN}x = Depends(get_current_user)\napp = FastAPI()\n\
         app.mount(\"/\", StaticFiles())\n\n@app.middleware(\"http\")\nasync def only(request, next): pass\n"
    );
    let added = main.replace(
        "@app.middleware(\"http\")\nasync def only(request, next): pass",
        "app.add_middleware(Only)",
    );
    assert_ne!(added, main);
    for main in [main, added] {
        let told = Application::of(&[REQUIREMENTS, ("main.py", &main)]).add(&["--yes"]).await;
        assert!(
            told["left"][1].as_str().unwrap().contains("this middleware sees /tidings and /ws first"),
            "{told}"
        );
    }
}
