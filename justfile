# Short names for what is typed often. Everything here is also in CONTRIBUTING.md as a plain command.

# Lists the recipes.
default:
    @just --list

# Everything that gates a change.
test *ARGS:
    ./test {{ARGS}}

# Formatting, clippy, the Rust tests and the doc tests.
fast:
    ./test --fast

# Formats Rust code.
fmt:
    cargo fmt --all

# One crate's tests and lints.
crate NAME:
    cargo clippy -p {{NAME}} --all-targets -- -D warnings
    cargo nextest run -p {{NAME}}
