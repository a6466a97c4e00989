//! What is around an application: proxies in front of it, processes beside it, sockets that it has already.

use super::manifest::{has_node_package, python_requirement};
use super::project::{Project, is_image};
use super::{Finding, Place};

/// Each proxy that passes requests on.
pub(crate) fn proxies(project: &Project) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in project.files() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.ends_with(".conf") {
            found.extend(first(path, text, "nginx", |line| word(line, "proxy_pass").map(str::to_owned)));
        } else if name == "Caddyfile" {
            found.extend(first(path, text, "caddy", |line| word(line, "reverse_proxy").map(str::to_owned)));
        } else if is_yaml(name) {
            found.extend(first(path, text, "ingress", |line| (line == "kind: Ingress").then(String::new)));
            found.extend(first(path, text, "traefik", |line| {
                line.contains("traefik.http.").then(String::new)
            }));
            found.extend(first(path, text, "compose", |line| {
                let image = word(line.trim_start_matches("- "), "image:")?.trim_matches(['"', '\'']);
                let is_proxy = ["nginx", "caddy", "traefik", "haproxy", "envoyproxy/"].iter().any(|proxy| {
                    image.rsplit_once('/').map_or(image, |(_, name)| name).starts_with(proxy)
                        || image.starts_with(proxy)
                });
                is_proxy.then(|| image.to_owned())
            }));
        }
    }
    found
}

/// Wherever more than one process serves the application.
pub(crate) fn workers(project: &Project) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in project.files() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_command = name == "package.json"
            || name == "Procfile"
            || name.ends_with(".sh")
            || name.ends_with(".service")
            || is_yaml(name)
            || is_image(path);
        if is_command {
            found.extend(first(path, text, "workers", |line| {
                count_after(line, &["--workers", "-w", "--web-concurrency"])
            }));
            found.extend(first(path, text, "gunicorn", |line| {
                (line.contains("gunicorn") && !line.starts_with('#')).then(String::new)
            }));
        }
        if is_yaml(name) {
            found.extend(first(path, text, "replicas", |line| {
                word(line, "replicas:").filter(|count| *count != "1").map(str::to_owned)
            }));
        }
        let is_pm2 = name.starts_with("ecosystem.config");
        if is_pm2 {
            found.extend(first(path, text, "pm2", |line| {
                let (key, value) = line.split_once(':')?;
                let is_count = key.trim().trim_matches(['"', '\'']) == "instances";
                is_count
                    .then(|| value.trim().trim_matches([',', '"', '\'']).to_owned())
                    .filter(|count| count != "1")
            }));
        }
        if super::tongue::Tongue::of(path).is_some() && !is_pm2 {
            let of_line = |line: &str| line.contains("cluster.fork(").then(String::new);
            found.extend(first(path, text, "cluster", of_line));
        }
    }
    found
}

/// Sockets that are there already, of whatever kind.
pub(crate) fn sockets(project: &Project) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in project.files().filter_map(|(path, _)| project.source(path)) {
        let is_javascript = !source.path.ends_with(".py") && !source.path.ends_with(".rs");
        let mut see = |kind, marks: &[&str]| {
            if let Some(at) = marks.iter().find_map(|mark| source.all(mark).next()) {
                found.push(Finding { kind, told: None, place: Place::of(&source, at) });
            }
        };
        if is_javascript {
            if has_node_package(project, "ws") {
                see("ws", &["new WebSocketServer(", "new WebSocket.Server(", "new ws.Server("]);
            }
            if has_node_package(project, "socket.io") {
                see("socket.io", &["new Server(", "socketio(", "socketIo(", "socketIO("]);
            }
            see("WebSocket", &["new WebSocket("]);
        } else if source.path.ends_with(".py") {
            see("websocket", &[".websocket(", "websocket: WebSocket", "ws: WebSocket"]);
        } else {
            see("WebSocketUpgrade", &["WebSocketUpgrade"]);
        }
    }
    found
}

/// Whatever shows that Tidings is there.
pub(crate) fn tidings(project: &Project) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in project.files() {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_package = |line: &str| match name {
            "package.json" => {
                line.contains("\"tidings-client\":") || line.contains("\"tidings-server-sdk\":")
            }
            "Cargo.toml" => {
                word(line, "tidings").is_some()
                    || line.starts_with("tidings=")
                    || line.starts_with("[dependencies.tidings]")
            }
            _ if name == "pyproject.toml" || name.starts_with("requirements") => {
                python_requirement(line, "tidings-client").is_some() || line.contains("tidings_client-")
            }
            _ => false,
        };
        if path == "tidings.toml" {
            found.push(Finding {
                kind: "configuration",
                told: None,
                place: Place { file: path.to_owned(), line: 1 },
            });
        }
        found.extend(first(path, text, "package", |line| is_package(line).then(String::new)));
    }
    found
}

fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// The first line of a file that says something, and what it says.
fn first(
    path: &str,
    text: &str,
    kind: &'static str,
    of_line: impl Fn(&str) -> Option<String>,
) -> Option<Finding> {
    let lines = text.lines().enumerate();
    let (number, told) = lines.filter_map(|(number, line)| Some((number, of_line(line.trim())?))).next()?;
    let place = Place { file: path.to_owned(), line: number + 1 };
    Some(Finding { kind, told: (!told.is_empty()).then_some(told), place })
}

/// What stands behind a word that begins a line.
fn word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(word)?;
    rest.starts_with(char::is_whitespace)
        .then(|| rest.split('#').next().unwrap_or(rest).trim().trim_end_matches(';'))
}

/// `4` of `--workers 4`, `--workers=4`, `"-w", "4"`; what is one alone is no more than one.
fn count_after(line: &str, options: &[&str]) -> Option<String> {
    let words: Vec<&str> = line
        .split(|next: char| next.is_whitespace() || "\"',=[]".contains(next))
        .filter(|word| !word.is_empty())
        .collect();
    let at = words.iter().position(|word| options.contains(word))?;
    let count = words.get(at + 1)?;
    let is_count = count.bytes().all(|byte| byte.is_ascii_digit()) && *count != "1" && *count != "0";
    let is_variable = count.starts_with('$');
    (is_count || is_variable).then(|| (*count).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(findings: &[Finding]) -> Vec<String> {
        let of = |finding: &Finding| {
            format!("{} {} {}", finding.kind, finding.told.as_deref().unwrap_or("-"), finding.place)
        };
        findings.iter().map(of).collect()
    }

    #[test]
    fn proxies_are_known_by_their_files() {
        let project = Project::of(&[
            ("deploy/nginx.conf", "server {\n  proxy_pass http://app:3000;\n}\n"),
            ("Caddyfile", ":80\nreverse_proxy app:3000 # a\n"),
            ("k8s/web.yaml", "kind: Ingress\n"),
            ("compose.yaml", "services:\n  web:\n    image: nginx:1.27\n  db:\n    image: postgres\n"),
            ("other.conf", "listen = 1\n"),
        ]);
        assert_eq!(
            told(&proxies(&project)),
            [
                "caddy app:3000 Caddyfile:2",
                "compose nginx:1.27 compose.yaml:3",
                "nginx http://app:3000 deploy/nginx.conf:2",
                "ingress - k8s/web.yaml:1",
            ]
        );
    }

    #[test]
    fn processes_are_counted_where_they_are_started() {
        let project = Project::of(&[
            ("Dockerfile", "CMD [\"uvicorn\", \"main:app\", \"--workers\", \"4\"]\n"),
            ("Procfile", "web: gunicorn -w 2 main:app\n"),
            ("ecosystem.config.js", "module.exports = {\n  instances: 'max',\n}\n"),
            ("deployment.yaml", "spec:\n  replicas: 3\n"),
            ("one.yaml", "replicas: 1\ncommand: uvicorn --workers 1\n"),
            ("server.js", "if (cluster.isPrimary) cluster.fork();\n"),
        ]);
        assert_eq!(
            told(&workers(&project)),
            [
                "workers 4 Dockerfile:1",
                "workers 2 Procfile:1",
                "gunicorn - Procfile:1",
                "replicas 3 deployment.yaml:2",
                "pm2 max ecosystem.config.js:2",
                "cluster - server.js:1",
            ]
        );
    }

    #[test]
    fn sockets_and_tidings_itself_are_seen() {
        let project = Project::of(&[
            ("package.json", "{\"dependencies\": {\n\"ws\": \"8\",\n\"tidings-client\": \"1\"}}"),
            ("server.js", "// new WebSocket(\nnew WebSocketServer({ server });\n"),
            ("main.py", "@app.websocket('/live')\n"),
            ("src/main.rs", "fn f(upgrade: WebSocketUpgrade) {}\n"),
            ("tidings.toml", ""),
        ]);
        assert_eq!(
            told(&sockets(&project)),
            ["websocket - main.py:1", "ws - server.js:2", "WebSocketUpgrade - src/main.rs:1"]
        );
        assert_eq!(told(&tidings(&project)), ["package - package.json:3", "configuration - tidings.toml:1"]);
        assert!(tidings(&Project::of(&[("Cargo.toml", "tidings-protocol = \"1\"\n")])).is_empty());
    }
}
