//! Passes the source revision to the compiler: `WORKFLOWS_SINK_REVISION`, else what git says, else `unknown`. Links
//! the binary with packed relocations and with our C around librdkafka's decompressors.

use std::{env, path::Path, process::Command};

/// What our C puts itself before.
const WRAPPED: [&str; 6] = [
    "ZSTD_getFrameContentSize",
    "rd_gz_decompress",
    "rd_kafka_zstd_decompress",
    "rd_kafka_lz4_decompress",
    "rd_kafka_buf_new_shadow",
    "rd_kafka_msgset_parse",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WORKFLOWS_SINK_REVISION");
    let revision = env::var("WORKFLOWS_SINK_REVISION")
        .ok()
        .filter(|revision| !revision.is_empty())
        .or_else(revision)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=WORKFLOWS_SINK_REVISION={revision}");
    // 20 KB that the loader reads at each start, rather than 1.3 MB that stay in memory; glibc from 2.36 on.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // An object rather than a library: with some linkers it depends on its place whether a library is looked into.
        for wrapped in WRAPPED {
            println!("cargo::rustc-link-arg-bins=-Wl,--wrap={wrapped}");
            // Our object stands behind the library: GNU ld no longer looks into that one for what only the object asks.
            println!("cargo::rustc-link-arg-bins=-Wl,--undefined={wrapped}");
        }
        let sources = ["src/kafka/unpacking.c", "src/kafka/zstd.c"];
        for source in sources {
            println!("cargo::rerun-if-changed={source}");
        }
        for object in cc::Build::new().files(sources).compile_intermediates() {
            println!("cargo::rustc-link-arg-bins={}", object.display());
        }
    }
}

/// The commit of this tree, where it is a git tree's root: sources inside another project's tree are not its commit.
fn revision() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // grows with every commit and checkout; a path that is not there would run this script at every build
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
