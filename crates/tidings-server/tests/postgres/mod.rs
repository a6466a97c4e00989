//! A real PostgreSQL of a test's own: a fresh cluster in a folder of its own on a free port, which ends with the value that
//! stands for it. It does not run as root, so root's tests run it as the package's user `postgres`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by it")]

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// How long it may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of the database's user over TCP.
pub(crate) const PASSWORD: &str = "canary-bird-of-the-application-database";

pub(crate) struct PostgresServer {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl PostgresServer {
    /// A new cluster, running.
    pub(crate) async fn start() -> Self {
        Self::start_with("", &[]).await
    }

    /// With more settings, and files beside them that only the server may read.
    pub(crate) async fn start_with(settings: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if let Some((uid, gid)) = other_user() {
            for path in [folder.path(), &password] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let made = program("initdb")
            .args(["--username=app", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        // Nothing of it has to survive the machine.
        let of_tests = "fsync = off\nfull_page_writes = off\nmax_connections = 20\nshared_buffers = '8MB'\n";
        let data = folder.path().join("data");
        std::fs::write(data.join("postgresql.auto.conf"), format!("{of_tests}{settings}\n")).unwrap();
        for (name, content) in files {
            let mut file =
                File::options().create_new(true).write(true).mode(0o600).open(data.join(name)).unwrap();
            file.write_all(content).unwrap();
            if let Some((uid, gid)) = other_user() {
                std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut server = Self { port: free_port(), folder, process: None };
        server.start_again().await;
        server
    }

    /// Where it listens over TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The same as a URL, with the password.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same where somebody else listens for it.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://app:{PASSWORD}@{address}/postgres")
    }

    /// Its socket as a URL, without the password.
    pub(crate) fn socket_url(&self) -> String {
        format!("postgres:///postgres?host={}&port={}&user=app", self.folder.path().display(), self.port)
    }

    /// Starts it where it was, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = program("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).arg("-p").arg(self.port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-k"]).arg(self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.stderr(Stdio::null()).spawn().unwrap());
        let began = Instant::now();
        while self.options().connect().await.is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, and with it every connection to it.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::INT);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
        process.wait().unwrap();
    }

    /// A connection as the application's.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.options().connect().await.unwrap()
    }

    /// Runs statements as the application does.
    pub(crate) async fn run(&self, statements: &'static str) {
        self.connect().await.execute(sqlx::raw_sql(statements)).await.unwrap();
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.folder.path())
            .port(self.port)
            .username("app")
            .database("postgres")
            .disable_statement_logging()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // At once: what it had is not wanted any more.
        self.end(Signal::QUIT);
    }
}

/// One of the server's programs, to be run by a user that it lets: Debian keeps them out of the path.
fn program(name: &str) -> Command {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.map(|version| version.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let found = folders.iter().map(|folder| folder.join(name)).find(|program| program.exists());
    let mut command = Command::new(
        found.unwrap_or_else(|| panic!("these tests need a PostgreSQL server: apt-get install postgresql")),
    );
    if let Some((uid, gid)) = other_user() {
        command.uid(uid).gid(gid);
    }
    command.env("LC_ALL", "C");
    command
}

/// The user and group of the package, where root runs the tests.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields =
        users.lines().find_map(|line| line.strip_prefix("postgres:")).expect("the package makes a user");
    let mut fields = fields.split(':').skip(1).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
