//! The SDKs that an application takes, or the crate itself: from a registry, or as packages that go with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::failure::Failure;

/// A package of an SDK, as an application asks for it.
pub(crate) struct Sdk {
    /// What a source that is filled in calls it: `{{ sdk.client }}`.
    key: &'static str,
    /// A package's file is this, the version, and the end.
    pub(crate) file_begins: &'static str,
    pub(crate) file_ends: &'static str,
    /// What stands in the application's list of packages, without the version.
    published: &'static str,
    /// What stands before and behind the path of a package that goes with the application.
    from_file: (&'static str, &'static str),
    /// How it is packed, in a clone of Tidings.
    pub(crate) packed_by: &'static str,
}

/// Of an Express application.
pub(crate) const EXPRESS: [Sdk; 2] = [
    Sdk {
        key: "client",
        file_begins: "tidings-client-",
        file_ends: ".tgz",
        published: "^",
        from_file: ("file:", ""),
        packed_by: "npm ci && npm pack --pack-destination FOLDER, in sdks/typescript",
    },
    Sdk {
        key: "server",
        file_begins: "tidings-server-sdk-",
        file_ends: ".tgz",
        published: "^",
        from_file: ("file:", ""),
        packed_by: "npm ci && npm pack --pack-destination FOLDER, in sdks/node-server",
    },
];

/// Of a FastAPI application.
pub(crate) const FASTAPI: [Sdk; 1] = [Sdk {
    key: "python",
    file_begins: "tidings_client-",
    file_ends: ".whl",
    published: "tidings-client[server]==",
    from_file: ("./", "[server]"),
    packed_by: "pip wheel --no-deps --wheel-dir FOLDER sdks/python",
}];

/// Of an axum application, which has Tidings in its process.
pub(crate) const AXUM: [Sdk; 2] = [
    Sdk {
        key: "crate",
        file_begins: "tidings-",
        file_ends: ".crate",
        published: "",
        from_file: ("", ""),
        packed_by: CRATES_PACKED_BY,
    },
    Sdk {
        key: "protocol",
        file_begins: "tidings-protocol-",
        file_ends: ".crate",
        published: "",
        from_file: ("", ""),
        packed_by: CRATES_PACKED_BY,
    },
];

const CRATES_PACKED_BY: &str =
    "cargo package --no-verify -p tidings-protocol -p tidings && cp target/package/*.crate FOLDER";

/// The folder of an application that has the packages of its SDKs, unless it is to be another.
pub(crate) const SDK_FOLDER: &str = "sdks";

/// How an application's list of packages asks for each, by its key: for the file in a folder of the application's, or in this
/// version.
pub(crate) fn asked_for(
    sdks: &[Sdk],
    packages: Option<&[String]>,
    folder: &str,
) -> BTreeMap<&'static str, String> {
    let version = env!("CARGO_PKG_VERSION");
    let asked_for = sdks.iter().enumerate().map(|(index, sdk)| {
        let asked_for = match packages.and_then(|packages| packages.get(index)) {
            Some(file) => format!("{}{folder}/{file}{}", sdk.from_file.0, sdk.from_file.1),
            None => format!("{}{version}", sdk.published),
        };
        (sdk.key, asked_for)
    });
    asked_for.collect()
}

/// The packages in a folder, each by its file's name.
///
/// # Errors
/// One that is not there, or there twice; what the file system says.
pub(crate) fn packages_in(folder: &Path, sdks: &[Sdk]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let told = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::usage(format_args!("--sdk-from {}: {error}", path.display()))
    };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| told(folder, &error))?;
    let names: Vec<String> =
        entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut packages = Vec::new();
    for sdk in sdks {
        let mut found = names.iter().filter(|name| {
            let version =
                name.strip_prefix(sdk.file_begins).and_then(|rest| rest.strip_suffix(sdk.file_ends));
            version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
        });
        let what = format!("{}…{}", sdk.file_begins, sdk.file_ends);
        match (found.next(), found.next()) {
            (Some(name), None) => {
                let path = folder.join(name);
                packages.push((name.clone(), fs::read(&path).map_err(|error| told(&path, &error))?));
            }
            (None, _) => {
                return Err(told(folder, &format_args!("there is no {what}")).fix(sdk.packed_by));
            }
            (Some(_), Some(_)) => {
                return Err(told(folder, &format_args!("there is more than one {what}"))
                    .fix("leave the one that is meant"));
            }
        }
    }
    Ok(packages)
}
