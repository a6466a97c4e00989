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
            ["FastAPI() is called in more than one place: main.py:2, main.py:3", "--entry"],
        ),
    ] {
        Application::of(&[REQUIREMENTS, ("main.py", &main(more))]).refused(&["--yes"], &expected).await;
    }
    let locked = [("requirements.txt", "fastapi==1 --hash=sha256:0\n"), ("main.py", &main(""))];
    Application::of(&locked).refused(&["--yes"], &["has the hashes of its packages"]).await;
}
