//! Whether this program, the server and the clients of an application are of one version.

use std::path::Path;

use serde_json::Value;

use super::diagnosis::Diagnosis;
use crate::cli::target::Target;

const OWN: &str = env!("CARGO_PKG_VERSION");
/// Where npm puts the SDKs of the application that is here.
const SDKS: [&str; 2] =
    ["node_modules/tidings-client/package.json", "node_modules/tidings-server-sdk/package.json"];

pub(super) async fn look(target: &Target, diagnosis: &mut Diagnosis) {
    let document = target.get("/openapi.json").await.ok().filter(|answer| answer.status.is_success());
    let document: Option<Value> = document.and_then(|answer| serde_json::from_slice(&answer.body).ok());
    match document.as_ref().and_then(|document| document["info"]["version"].as_str()) {
        Some(server) if fits(server) => diagnosis.fine("server_version", server),
        Some(server) => diagnosis.found(
            "server_version",
            format!("the server is of version {server}, and this program of {OWN}"),
            format!("{}: info.version", target.page("/openapi.json")),
            "install the same version on both sides",
        ),
        None => diagnosis.not_judged("server_version", "the server does not show /openapi.json here"),
    }
    for file in SDKS {
        let Ok(text) = std::fs::read_to_string(Path::new(file)) else { continue };
        let package: Value = serde_json::from_str(&text).unwrap_or_default();
        match package["version"].as_str() {
            Some(version) if !fits(version) => diagnosis.found(
                "sdk_version",
                format!("the SDK is of version {version}, and this program of {OWN}"),
                file,
                format!("npm install {}@{OWN}", package["name"].as_str().unwrap_or_default()),
            ),
            Some(version) => diagnosis.fine("sdk_version", format!("{file}: {version}")),
            None => {}
        }
    }
}

/// Before 1.0 the second number says what fits.
fn fits(version: &str) -> bool {
    let numbers = |version: &str| {
        let mut numbers = version.split('.').map(str::to_owned);
        (numbers.next(), numbers.next())
    };
    numbers(version) == numbers(OWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_fits_and_another_minor_does_not() {
        let (major, minor) = (OWN.split('.').next().unwrap(), OWN.split('.').nth(1).unwrap());
        assert!(fits(OWN) && fits(&format!("{major}.{minor}.99")));
        assert!(!fits("99.0.0") && !fits(""));
    }
}
