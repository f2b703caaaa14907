//! The image's Dockerfile, and what it is built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use local_stack::install;
use tempfile::TempDir;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Whether a command succeeded, and all that it said.
pub fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn the_dockerfile_keeps_the_rules_of_dockerfiles() {
    let hadolint = install::hadolint().expect("hadolint");
    let file = root().join("deploy/image/Dockerfile");
    let (good, output) = said(Command::new(&hadolint).arg(&file));
    assert!(good && output.is_empty(), "{output}");

    let text = std::fs::read_to_string(file).expect("a Dockerfile");
    let directory = TempDir::new().expect("a directory");
    let bad = directory.path().join("Dockerfile");
    // with a digest or without one, as `pin.sh` left it
    let last = text.lines().rfind(|line| line.starts_with("FROM "));
    let untagged = text.replace(last.expect("a base"), "FROM gcr.io/distroless/cc-debian13");
    std::fs::write(&bad, untagged).expect("written");
    assert!(
        !said(Command::new(&hadolint).arg(&bad)).0,
        "an image without a tag"
    );
}

/// The pages tell people to run it by its name, and the image has no shell that would look further.
#[test]
fn the_program_is_where_the_image_looks_for_commands() {
    let text = std::fs::read_to_string(root().join("deploy/image/Dockerfile")).expect("a file");
    let mut copied = text
        .lines()
        .filter(|line| line.starts_with("COPY --from=build"));
    let to = copied
        .next_back()
        .and_then(|line| line.split(' ').next_back());
    // PATH of the base image; the pods of these tests have the same
    assert_eq!(to, Some("/usr/local/bin/workflows-sink"));
    assert!(text.contains("ENTRYPOINT [\"workflows-sink\"]"), "{text}");
    for page in std::fs::read_dir(root().join("docs")).expect("pages") {
        let path = page.expect("a page").path();
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(!page.contains(" /workflows-sink "), "{}", path.display());
    }
}

/// What is left out of the image's context is no part of the build.
#[test]
fn the_build_context_holds_the_packages_that_are_built() {
    let context = TempDir::new().expect("a directory");
    let listed = std::fs::read_to_string(root().join("deploy/image/Dockerfile.dockerignore"))
        .expect("a list");
    for path in listed.lines().filter_map(|line| line.strip_prefix('!')) {
        let to = context.path().join(path);
        std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).expect("a folder");
        let (copied, output) = said(Command::new("cp").arg("-r").arg(root().join(path)).arg(to));
        assert!(copied, "{output}");
    }
    // A build reads every target of the packages, which `cargo tree` does not; of a program that
    // is not there it builds nothing.
    let mut build = Command::new(env!("CARGO"));
    let arguments = "build --locked --offline --bin none --target-dir";
    build.current_dir(context.path()).args(arguments.split(' '));
    let (_, output) = said(build.arg(context.path().join("target")));
    assert!(output.contains("no bin target named `none`"), "{output}");
    for included in [
        "config/mapping.toml",
        "config/users.toml",
        "src/main.rs",
        "build.rs",
        "LICENSE",
        "deploy/image/about.pl",
        "deploy/image/about.sh",
        "deploy/image/about.toml",
        "deploy/image/split.sh",
    ] {
        assert!(context.path().join(included).exists(), "{included}");
    }
}

#[test]
fn the_shipped_program_has_no_symbols_and_leads_to_those_beside_it() {
    let folder = TempDir::new().expect("a directory");
    let mut split = Command::new("sh");
    split.arg(root().join("deploy/image/split.sh"));
    split.arg(env!("CARGO_BIN_EXE_workflows-sink"));
    let (good, told) = said(split.arg(folder.path()));
    assert!(good, "{told}");

    let shipped = folder.path().join("workflows-sink");
    let (good, told) = said(Command::new(&shipped).arg("--version"));
    assert!(good && told.starts_with("workflows-sink "), "{told}");
    let (_, told) = said(Command::new("nm").arg(&shipped));
    assert!(told.contains("no symbols"), "{told}");

    let symbols = folder.path().join("workflows-sink.debug");
    let (_, told) = said(Command::new("nm").arg(&symbols));
    let main = told.lines().find_map(|line| line.strip_suffix(" T main"));
    let address = main.expect("a symbol of main");
    let mut look_up = Command::new("addr2line");
    look_up.arg("-f").arg("-e").arg(&shipped).arg(address);
    let (_, told) = said(&mut look_up);
    assert!(told.starts_with("main\n"), "{told}");
}
