# A line of cargo each; what is longer has a script in tools/ or .ci/.

# formatting, lints and documentation, as CI has them
check:
    cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# every test
test:
    cargo test --workspace

# the kernel tests under Debian's kernel, in an emulated machine
second-kernel FILTER="":
    tools/second-kernel {{FILTER}}

# the black-box cases against any directory of plugins
conformance DIR *ARGS:
    cargo run --release -p conformance -- {{DIR}} {{ARGS}}

# the static binary that is shipped, and its size; then in target/plugins, with a link for each plugin
static:
    tools/build-static && target/static/ferrocni install target/plugins

# containerd and podman on a directory of plugins, as root
clients DIR *ARGS:
    cargo run --release -p clients -- {{DIR}} {{ARGS}}

# ours (of `just static`) against another directory of plugins, and against the kernel's floor
bench OTHER *ARGS:
    tools/build-static floor && tools/build-static runtime && cargo run --release -p bench -- --ours target/plugins --other {{OTHER}} {{ARGS}}

# licences, advisories (from the network), doubles
deny:
    cargo deny check

# whatever parses, fed with noise: a minute each
fuzz *ARGS:
    fuzz/run 60 {{ARGS}}
