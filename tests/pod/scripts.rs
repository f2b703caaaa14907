//! The scripts of `deploy/`, run with stand-ins for the programs that they call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_stack::install;
use tempfile::TempDir;
use test_support::datastore;

use crate::image::said;
use crate::shipped::deploy;

/// Copies what is in a folder.
pub fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    let from = format!("{}/.", from.display());
    let done = command.args(["-R", &from]).arg(to).status();
    assert!(done.expect("cp").success());
}

/// Runs `upstream.sh` of a copy of `deploy/mongodb`.
pub fn upstream(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("sh");
    command.arg(folder.join("upstream.sh")).args(arguments);
    said(&mut command)
}

#[test]
fn another_version_is_compared_with_the_pinned_one_and_no_patch_is_touched() {
    install::require(&["golang-go"]).expect("Go");
    let folder = TempDir::new().expect("a folder");
    copy(&deploy().join("mongodb"), folder.path());
    let patches = || fs::read_to_string(folder.path().join("operator/kustomization.yaml"));
    let before = patches().expect("patches");

    let (done, told) = upstream(folder.path(), &["--module", "1.22.0"]);
    assert!(done, "{told}");
    for says in [
        "--- 1.23.0",
        "+++ 1.22.0",
        "which is not pinned",
        "echo 1.22.0 ",
    ] {
        assert!(
            told.contains(says),
            "{says}: {}",
            &told[told.len().saturating_sub(2000)..]
        );
    }
    assert_eq!(patches().expect("patches"), before);

    let pin = folder.path().join("operator/pinned");
    fs::write(&pin, format!("1.23.0 {}\n", "0".repeat(64))).expect("written");
    fs::remove_file(folder.path().join("operator/bundle.yaml")).expect("removed");
    let (done, told) = upstream(folder.path(), &["--module"]);
    assert!(!done && told.contains("is pinned"), "{told}");
    assert!(
        !folder.path().join("operator/bundle.yaml").exists(),
        "what was changed is not used"
    );
}

/// Adds every script below a folder, but what git has or was built there.
fn add_scripts(folder: &Path, scripts: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with(".git") && !path.ends_with("target") {
                add_scripts(&path, scripts);
            }
        } else if path.extension().is_some_and(|end| end == "sh") {
            scripts.push(path);
        }
    }
}

#[test]
fn the_scripts_keep_the_rules_of_shell_scripts() {
    install::require(&["shellcheck"]).expect("shellcheck");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut scripts = vec![root.join(".ci/run")];
    add_scripts(root, &mut scripts);
    assert!(scripts.len() > 15, "they are found: {scripts:?}");
    let mut command = Command::new("shellcheck");
    // What a script includes is named from the root.
    let command = command.current_dir(root).arg("-x").args(scripts);
    let (good, told) = said(command);
    assert!(good && told.is_empty(), "{told}");
}

#[test]
fn a_call_of_kafkas_script_that_lacks_a_word_is_told_which_there_are() {
    for arguments in [
        "",
        "--replicas",
        "--dry-run --replicas",
        "--replicas 3 b",
        "--migrate",
        "--migrate User:m b",
    ] {
        let mut command = Command::new("sh");
        command.arg(deploy().join("kafka/kafka.sh"));
        let (done, told) = said(command.args(arguments.split_whitespace()));
        assert!(!done && told.contains("BOOTSTRAP SINK KEDA"), "{told}");
    }
}

/// A project, a bucket and a region.
const WHERE: [&str; 3] = ["a-project", "a-bucket", "us-central1"];

/// Runs `gcloud.sh` with the stand-ins that lie in a folder.
fn gcloud_script(folder: &Path, options: &[&str], place: &[&str]) -> (bool, String) {
    let mut command = Command::new("sh");
    command.arg(deploy().join("mongodb/gcloud.sh"));
    command.args(options).args(place);
    said(command.env("PATH", format!("{}:/usr/bin:/bin", folder.display())))
}

/// As [`gcloud_script`] with `--hmac`, and the calls of the stand-ins. The key stands in neither.
fn with_key(folder: &Path) -> (bool, String, String) {
    let (done, told) = gcloud_script(folder, &["--hmac"], &WHERE);
    let calls = fs::read_to_string(folder.join("calls")).expect("calls");
    let all = format!("{told}{calls}");
    assert!(!all.contains("hunter"), "{all}");
    (done, told, calls)
}

#[test]
fn a_dry_run_shows_the_clouds_commands_and_runs_none() {
    let folder = TempDir::new().expect("a folder");
    for name in ["gcloud", "kubectl"] {
        stand_in(folder.path(), name, "exit 1");
    }
    let (done, told) = gcloud_script(folder.path(), &["--dry-run"], &WHERE);
    assert!(done, "{told}");
    let cluster = datastore::cluster();
    let account = cluster["spec"]["replsets"][0]["serviceAccountName"].as_str();
    let member = format!(
        "a-project.svc.id.goog[mongodb/{}]",
        account.expect("an account")
    );
    for says in [
        "gcloud storage buckets create gs://a-bucket",
        "gcloud iam service-accounts create mongodb-backup",
        "gcloud iam service-accounts create mongodb-admin",
        "roles/iam.workloadIdentityUser",
        member.as_str(),
        "a-project.svc.id.goog[mongodb/mongodb-admin]",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(
        !told.contains("hmac"),
        "no key is made unless it is asked for: {told}"
    );
    let (done, told) = gcloud_script(folder.path(), &["--dry-run", "--hmac"], &WHERE);
    assert!(
        done && told.contains("gcloud storage hmac create"),
        "{told}"
    );
    assert!(told.contains("dyff-datastore-backup-s3"), "{told}");
    assert!(!folder.path().join("calls").exists(), "nothing was called");
    let (done, told) = gcloud_script(folder.path(), &["--dry-run"], &[]);
    assert!(!done && told.contains("PROJECT BUCKET REGION"), "{told}");
}

/// What stands in for `gcloud` and `kubectl`: writes down how it was called, and does what `text`
/// says.
fn stand_in(folder: &Path, name: &str, text: &str) {
    let calls = folder.join("calls");
    let text = format!(
        "#!/bin/sh\necho \"{name} $*\" >>'{}'\n{text}\n",
        calls.display()
    );
    fs::write(folder.join(name), text).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.join(name), mode).expect("executable");
}

#[test]
fn what_is_there_in_the_cloud_is_left_and_a_key_stands_in_no_argument() {
    let run = |folder: &Path| {
        let (done, told, calls) = with_key(folder);
        assert!(done, "{told}{calls}");
        calls
    };
    // nothing is there yet
    let folder = TempDir::new().expect("a folder");
    let root = folder.path();
    let key = "printf 'ACCESS\\thmac-hunter\\n'";
    let gcloud = format!("case $* in *describe*) exit 1 ;; *'hmac create'*) {key} ;; esac");
    stand_in(root, "gcloud", &gcloud);
    let kept = root.join("kept");
    let copy = format!("cat \"${{f#--from-file=}}\" >>'{}'", kept.display());
    let kubectl = format!(
        "[ $1 = create ] || exit 0\nfor f; do case $f in --from-file=*) {copy} ;; esac; done"
    );
    stand_in(root, "kubectl", &kubectl);
    let calls = run(root);
    for made in [
        "buckets create",
        "accounts create mongodb-admin",
        "hmac create",
    ] {
        assert_eq!(calls.matches(made).count(), 1, "{made}: {calls}");
    }
    let kept = fs::read_to_string(kept).expect("a Secret");
    assert_eq!(kept, "ACCESShmac-hunter", "both halves, without line ends");

    // all of it is
    let folder = TempDir::new().expect("a folder");
    stand_in(folder.path(), "gcloud", "");
    stand_in(
        folder.path(),
        "kubectl",
        "[ $2 != secret ] || echo secret/it",
    );
    let calls = run(folder.path());
    assert!(!calls.contains("create"), "{calls}");
    assert!(calls.contains("add-iam-policy-binding"), "{calls}");
}

#[test]
fn a_key_that_no_secret_takes_is_not_made_or_does_not_stay_valid() {
    let key = "case $* in *'hmac create'*) printf 'ACCESS\\thmac-hunter\\n' ;; esac";
    for (kubectl, is_made) in [("exit 1", false), ("[ $1 != create ] || exit 1", true)] {
        let folder = TempDir::new().expect("a folder");
        stand_in(folder.path(), "gcloud", key);
        stand_in(folder.path(), "kubectl", kubectl);
        let (done, told, calls) = with_key(folder.path());
        assert!(!done, "{told}{calls}");
        assert_eq!(calls.contains("hmac create"), is_made, "{calls}");
        let deactivated = "hmac update ACCESS --deactivate";
        assert_eq!(calls.contains(deactivated), is_made, "{calls}");
    }
}

#[test]
fn bases_are_pinned_to_what_the_registry_answers_and_only_all_of_them() {
    let folder = TempDir::new().expect("a folder");
    let root = folder.path();
    for name in ["Dockerfile", "pin.sh"] {
        fs::copy(deploy().join("image").join(name), root.join(name)).expect("copied");
    }
    let pin = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(root.join("pin.sh")).args(arguments);
        said(command.env("PATH", format!("{}:/usr/bin:/bin", root.display())))
    };
    let dockerfile = || fs::read_to_string(root.join("Dockerfile")).expect("a Dockerfile");
    let before = dockerfile();
    let (rust, last) = (
        format!("sha256:{}", "a".repeat(64)),
        format!("sha256:{}", "b".repeat(64)),
    );

    stand_in(root, "skopeo", "exit 1");
    let (done, told) = pin(&["--dry-run"]);
    assert!(done && told.contains("docker://rust:1.95-trixie"), "{told}");
    assert!(
        told.contains("docker://gcr.io/distroless/cc-debian13:nonroot"),
        "{told}"
    );
    assert!(!root.join("calls").exists(), "nothing was called");

    // one of both, and something that is no digest
    stand_in(
        root,
        "skopeo",
        &format!("case $* in *rust*) echo {rust} ;; *) exit 1 ;; esac"),
    );
    assert!(!pin(&[]).0);
    stand_in(root, "skopeo", "echo sha256:latest");
    let (done, told) = pin(&[]);
    assert!(!done && told.contains("no digest"), "{told}");
    assert_eq!(dockerfile(), before);

    for (rust, last) in [(&rust, &last), (&last, &rust)] {
        let answer = format!("case $* in *rust*) echo {rust} ;; *) echo {last} ;; esac");
        stand_in(root, "skopeo", &answer);
        let (done, told) = pin(&[]);
        assert!(done, "{told}");
        let pinned = dockerfile();
        for line in [
            format!("FROM rust:1.95-trixie@{rust} AS rust\n"),
            format!("FROM gcr.io/distroless/cc-debian13:nonroot@{last} AS migrate\n"),
            format!("FROM gcr.io/distroless/cc-debian13:nonroot@{last}\n"),
        ] {
            assert!(pinned.contains(&line), "{line}: {pinned}");
        }
        assert_eq!(pinned.matches("@sha256:").count(), 3, "{pinned}");
        assert_eq!(pinned.lines().count(), before.lines().count());
    }
}
