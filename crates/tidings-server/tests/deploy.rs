//! What `deploy/` has, as far as it can be tried without a service manager and without containers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is a panic")]

mod server;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use saphyr::{LoadableYamlNode as _, Yaml};
use server::{WAIT_MAX, kept_stderr, run, signal, tidings, within};

const SECRET: &str = "canary-bird of the deployment, and 32 bytes";

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).unwrap()
}

#[tokio::test]
async fn a_service_manager_is_told_when_it_listens_and_when_it_stops() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut command = tidings(&home);
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(home.path());
    command.env("NOTIFY_SOCKET", &socket).env("TIDINGS_AUTH__SECRET", SECRET);
    let mut child = command.stderr(kept_stderr()).spawn().unwrap();
    assert_eq!(told().trim_end(), "READY=1");
    signal(&child, Signal::TERM);
    assert_eq!(told().trim_end(), "STOPPING=1");
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
}

#[test]
fn systemd_takes_the_unit() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: there is no systemd-analyze here");
        return;
    };
    assert!(version.status.success());
    let home = tempfile::tempdir().unwrap();
    let unit = home.path().join("tidings.service");
    let program = env!("CARGO_BIN_EXE_tidings");
    std::fs::write(&unit, text("tidings.service").replace("/usr/local/bin/tidings", program)).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    // What it says of other units of this machine is not ours.
    let of_ours: Vec<_> = said.lines().filter(|line| line.contains("tidings")).collect();
    assert!(verified.status.success() && of_ours.is_empty(), "{said}");
}

#[tokio::test]
async fn the_units_configuration_is_sound_with_its_credential() {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("tidings.secret"), SECRET).unwrap();
    let mut command = tidings(&credentials);
    command.args(["config", "check", "--config"]).arg(deploy("tidings.toml"));
    let output = run(command.env("CREDENTIALS_DIRECTORY", credentials.path())).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok\n");
    let unit = text("tidings.service");
    for line in [
        "Type=notify",
        "LoadCredential=tidings.secret:/etc/tidings/tidings.secret",
        "RestartPreventExitStatus=2 78",
    ] {
        assert!(unit.lines().any(|of_unit| of_unit == line), "{line}");
    }
}

#[tokio::test]
async fn what_compose_sets_is_a_sound_configuration() {
    let text = text("compose.yaml");
    let documents = Yaml::load_from_str(&text).unwrap();
    let tidings_service = &documents[0]["services"]["tidings"];
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("tidings.secret");
    std::fs::write(&secret, SECRET).unwrap();
    let mut command = tidings(&home);
    command.args(["config", "check"]);
    for (name, value) in tidings_service["environment"].as_mapping().unwrap() {
        let value = value.as_str().unwrap_or_else(|| panic!("{name:?} is a text"));
        let in_container = value.strip_prefix("/run/secrets/").map(|name| home.path().join(name));
        command.env(name.as_str().unwrap(), in_container.unwrap_or_else(|| value.into()));
    }
    // The file that the command names is the one that is mounted there.
    let arguments: Vec<_> = strings(&tidings_service["command"]);
    assert_eq!(arguments, ["serve", "--config", "/etc/tidings/tidings.toml"]);
    let mounts = strings(&tidings_service["volumes"]);
    assert!(mounts.contains(&"./tidings.toml:/etc/tidings/tidings.toml:ro".to_owned()), "{mounts:?}");
    assert!(mounts.contains(&"state:/var/lib/tidings".to_owned()), "{mounts:?}");
    let output = run(command.arg("--config").arg(deploy("tidings.toml"))).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok\n", "{:?}", String::from_utf8(output.stderr));
    // All that a service needs of others is there.
    assert!(documents[0]["services"].as_mapping_get("redis").is_some());
    assert_eq!(strings(&tidings_service["secrets"]), ["tidings.secret"]);
    assert!(documents[0]["secrets"].as_mapping_get("tidings.secret").is_some());
    let build = &tidings_service["build"];
    let containerfile =
        deploy(build["context"].as_str().unwrap()).join(build["dockerfile"].as_str().unwrap());
    assert!(std::fs::read_to_string(containerfile).unwrap().contains("USER 65532:65532"));
}

fn strings(list: &Yaml<'_>) -> Vec<String> {
    list.as_sequence().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_container_has_all_that_the_program_is_linked_with() {
    let home = tempfile::tempdir().unwrap();
    let image = home.path().join("image");
    let laid_out = Command::new(deploy("image-root")).arg(env!("CARGO_BIN_EXE_tidings")).arg(&image).status();
    assert!(laid_out.unwrap().success());
    assert!(image.join("etc/ssl/certs/ca-certificates.crt").exists());
    let mut inside = Command::new("chroot");
    inside.args(["--userspec=65532:65532"]).arg(&image).args([
        "/usr/local/bin/tidings",
        "config",
        "check",
        "--config",
    ]);
    inside.arg("/etc/tidings/tidings.toml").env("TIDINGS_AUTH__SECRET_FILE", "/secret");
    std::fs::write(image.join("secret"), SECRET).unwrap();
    // The folder is this user's alone, and whoever is inside is another.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).unwrap();
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: only root can go into another root");
        return;
    }
    let output = inside.output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok\n", "{:?}", String::from_utf8(output.stderr));
}
