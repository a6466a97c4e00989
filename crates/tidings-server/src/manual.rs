//! The documents that the program carries, so that they can be read where there is no network: `docs/`, the READMEs, the protocol.

/// A page, as `tidings docs` prints it.
#[derive(Debug)]
pub(crate) struct Page {
    /// What it is asked for by.
    pub(crate) topic: &'static str,
    /// What is in it, on a line.
    pub(crate) about: &'static str,
    /// Where it stands in the repository: links inside it count from there.
    pub(crate) path: &'static str,
    /// Markdown.
    pub(crate) text: &'static str,
}

macro_rules! page {
    ($topic:literal, $path:literal, $about:literal) => {
        Page { topic: $topic, about: $about, path: $path, text: include_str!(concat!("../../../", $path)) }
    };
}

/// In the order in which somebody new would read them.
pub(crate) const PAGES: &[Page] = &[
    page!("readme", "README.md", "What Tidings is, and the ways in: begin here"),
    page!("configuration", "docs/configuration.md", "Every key of tidings serve, with its default"),
    page!("http-api", "docs/http-api.md", "What a backend does: publish, see who is where, send away"),
    page!("webhooks", "docs/webhooks.md", "What Tidings asks a backend, and what it tells it"),
    page!("memberships", "docs/memberships.md", "Which rooms a user belongs to, from your own database"),
    page!("one-port", "docs/one-port.md", "Application and socket at one address; proxies; TLS"),
    page!("guarantees", "docs/guarantees.md", "What is promised, and which test shows it"),
    page!("cluster", "docs/cluster.md", "Users across nodes that share a Redis"),
    page!("redis", "docs/redis.md", "What the Redis under it has to be; Cluster, Sentinel, TLS"),
    page!("protocol", "PROTOCOL.md", "What goes over the wire, tidings.v1"),
    page!("typescript", "sdks/typescript/README.md", "The client for browsers and Node; React"),
    page!("python", "sdks/python/README.md", "The client for Python, and the SDK for a backend in it"),
    page!("rust", "crates/tidings-client/README.md", "The client for Rust"),
    page!("go", "docs/go.md", "A client in Go, in sixty lines"),
    page!(
        "collaborative-editing",
        "docs/collaborative-editing.md",
        "One document that several people edit, with Yjs"
    ),
    page!("node-server", "sdks/node-server/README.md", "The SDK for a backend in Node; attach"),
    page!("express-chat", "examples/express-chat/README.md", "A chat on an Express application"),
    page!(
        "fastapi-dashboard",
        "examples/fastapi-dashboard/README.md",
        "A live dashboard on a FastAPI application"
    ),
    page!("chat", "examples/chat/README.md", "A chat on an axum application"),
    page!("dashboard", "examples/dashboard/README.md", "A live dashboard on an axum application"),
    page!("redis-cluster", "examples/redis-cluster/README.md", "Three nodes that you may kill"),
    page!(
        "packages",
        "packages/README.md",
        "Archive, .deb, npm package and wheel: how they are made and installed"
    ),
    page!("changelog", "CHANGELOG.md", "What has changed"),
];
