//! An authority of a test's own, and what it certifies.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::free_port;

/// A certificate and a key for a server at 127.0.0.1, and another pair for its clients.
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    pub fn make() -> Self {
        let folder = std::env::temp_dir().join(format!("tidings-tls-{}-{}", std::process::id(), free_port()));
        std::fs::create_dir_all(&folder).unwrap();
        let days = ["-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let new = |name: &str, more: &[&str]| {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
            let begin =
                ["req", "-x509", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &certificate];
            openssl(&folder, &[&begin[..], &days, more].concat());
        };
        new("ca", &["-addext", "keyUsage=critical,keyCertSign"]);
        let by_ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
        new("server", &[&by_ca[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat());
        new("client", &by_ca);
        Self { folder }
    }

    /// What a server is started with, that takes TLS at this port and, if it asks for them, certified clients alone.
    pub fn arguments(&self, port: u16, clients: &str) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let port = port.to_string();
        let arguments = ["--tls-port", &port, "--tls-auth-clients", clients];
        let files = [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-cert-file", "ca.pem"),
        ];
        let files = files.into_iter().flat_map(|(argument, name)| [argument.to_owned(), path(name)]);
        arguments.map(str::to_owned).into_iter().chain(files).collect()
    }

    /// Where a file is: `server.pem`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `ca.pem`, `client.pem` or `client.key`.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    let made = command.output().expect("these tests need openssl: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
