//! The dashboard is what its program makes, and holds together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_stack::left_out;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const DASHBOARD: &str = "deploy/kubernetes/components/observability/dashboard.json";
const PROGRAM: &str = "deploy/kubernetes/dashboard/dashboard.py";
const PACKAGES: &str = "deploy/kubernetes/dashboard/requirements.txt";
/// The SHA-256 of each, as `make dashboard` left them.
const DIGESTS: &str = "deploy/kubernetes/components/observability/dashboard.sha256";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join(DASHBOARD)).unwrap()).unwrap()
}

/// A changed program is seen everywhere, also where nothing that it needs is installed.
#[test]
fn the_dashboard_was_made_by_its_program_as_it_is() {
    let digest = |file: &str| {
        let digest = Sha256::digest(fs::read(root().join(file)).unwrap());
        format!("{}  {file}\n", hex::encode(digest))
    };
    let is = [PROGRAM, PACKAGES, DASHBOARD].map(digest).concat();
    let was = fs::read_to_string(root().join(DIGESTS)).unwrap();
    assert_eq!(was, is, "{DASHBOARD} is stale: make dashboard");
}

#[test]
fn the_dashboard_is_what_its_program_prints() {
    // Where `make dashboard` has put what the program needs; a test fetches nothing.
    let packages = option_env!("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let packages = packages.join("dashboard");
    if !packages.exists() {
        left_out("`make dashboard` was never run here, so the dashboard is not made anew");
        return;
    }
    let mut python = Command::new("python3");
    let printed = python.arg(root().join(PROGRAM)).env("PYTHONPATH", packages);
    let printed = printed
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&printed.stderr);
    assert!(printed.status.success(), "{said}");
    let is = fs::read(root().join(DASHBOARD)).unwrap();
    assert!(printed.stdout == is, "{DASHBOARD} is stale: make dashboard");
}

#[test]
fn panels_have_ids_and_places_of_their_own_and_any_datasource() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "workflows-sink");
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is on the board");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(places.insert((x, y)), "{title} covers another panel");
            }
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let selects = expression.contains("namespace=~\"$namespace\"");
            assert!(selects, "{title}: {expression}");
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["name"], "datasource");
}

#[test]
fn the_picture_shows_every_panel() {
    let picture = fs::read_to_string(root().join("docs/dashboard.svg")).unwrap();
    for panel in dashboard()["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let is_there = picture.contains(&format!(">{title}</text>"));
        let renew = "RENEW=1 cargo test --test service an_ordinary_day";
        assert!(is_there, "{title}: docs/dashboard.svg is stale: {renew}");
    }
    for active in ["<script", "href", "onload", "url(", "<image"] {
        assert!(!picture.contains(active), "{active}");
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.contains("(docs/dashboard.svg)"),
        "README.md shows it"
    );
}
