use tempfile::TempDir;

use super::*;

const A: &str = "Account:public/Evaluation:1";
const B: &str = "Account:public/Evaluation:2";

struct Bench {
    folder: TempDir,
    mapping: Mapping,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            mapping: Mapping::load(None).unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("remap.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn add(&self, paths: &[&str]) -> Result<u64> {
        let mut remap = Remap::open_or_new(&self.file(), &self.mapping)?;
        let mut addition = remap.add()?;
        for path in paths {
            if addition.id(path).is_none() {
                addition.insert(path, NewId::of("s", path), &self.mapping)?;
            }
        }
        addition.finish()
    }

    fn refused(&self) -> String {
        let opened = Remap::open(&self.file(), &self.mapping);
        format!("{:#}", opened.err().expect("it is refused"))
    }
}

#[test]
fn a_rerun_leaves_the_file_as_it_is_to_the_byte() {
    let bench = Bench::new();
    assert!(bench.refused().contains("datastore-migrate ids"));
    assert_eq!(bench.add(&[A]).unwrap(), 1);
    let first = bench.text();
    assert_eq!(bench.add(&[A]).unwrap(), 0);
    assert_eq!(bench.text(), first);
    assert_eq!(bench.add(&[A, B]).unwrap(), 1);
    assert!(
        bench
            .text()
            .starts_with(first.trim_end().trim_end_matches('}').trim_end())
    );
    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert_eq!(remap.len(), 2);
    assert_eq!(remap.id(Fingerprint::of(B)), Some(NewId::of("s", B)));
    let sum = fs::read_to_string(bench.folder.path().join("remap.json.sha256")).unwrap();
    assert_eq!(sum, format!("{}  remap.json\n", remap.sha256().unwrap()));
}

#[test]
fn a_file_of_others_is_taken_in_as_it_is() {
    let bench = Bench::new();
    let theirs = format!(
        "{{\"{A}\" :\n\"0123456789abcdef0123456789abcdef\", \"Account:odd\": \"{:032}\"}}\n\n",
        1
    );
    fs::write(bench.file(), &theirs).unwrap();
    assert!(bench.refused().contains("is not this migration's yet"));
    assert_eq!(bench.add(&[A]).unwrap(), 0);
    assert_eq!(bench.text(), theirs);
    assert_eq!(bench.add(&[A, B]).unwrap(), 1);
    assert!(
        bench
            .text()
            .starts_with(theirs.trim_end().trim_end_matches('}'))
    );
    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert_eq!(remap.len(), 3);
    assert_eq!(
        remap.id(Fingerprint::of(A)).unwrap().to_string(),
        "0123456789abcdef0123456789abcdef"
    );
}

/// The file is copied through a buffer that is smaller.
#[test]
fn a_file_larger_than_a_buffer_is_added_to() {
    let bench = Bench::new();
    let paths: Vec<String> = (1..1_000)
        .map(|id| format!("Account:public/Model:{id}"))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    bench.add(&paths).unwrap();
    let first = bench.text();
    assert!(first.len() > 5 * 8_192, "{}", first.len());
    // Whatever is behind the last member, also more than a buffer of it.
    let spaced = format!("{}{}", first.trim_end(), " ".repeat(10_000));
    for known in [NAMES[1], NAMES[2]] {
        fs::remove_file(bench.folder.path().join(known)).unwrap();
    }
    fs::write(bench.file(), spaced).unwrap();
    assert_eq!(bench.add(&[A]).unwrap(), 1);
    let members = first.trim_end().trim_end_matches('}').trim_end();
    let added = bench.text();
    let added = added.strip_prefix(members).unwrap();
    assert_eq!(
        added,
        format!(",\n  \"{A}\": \"{}\"\n}}\n", NewId::of("s", A))
    );
    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert_eq!(remap.len(), 1_000);
}

#[test]
fn an_edited_file_is_refused_also_with_its_checksum_made_anew() {
    let bench = Bench::new();
    bench.add(&[A]).unwrap();
    let edited = bench
        .text()
        .replace(&NewId::of("s", A).to_string(), &format!("{:032}", 7));
    fs::write(bench.file(), &edited).unwrap();
    assert!(bench.refused().contains("has been edited"));
    let sum = format!("{}  remap.json\n", hex_of_file(&bench.file()).unwrap());
    fs::write(bench.folder.path().join("remap.json.sha256"), sum).unwrap();
    assert!(bench.refused().contains("has been edited"));
    assert!(bench.add(&[B]).is_err());
    fs::remove_file(bench.file()).unwrap();
    assert!(format!("{:#}", bench.add(&[B]).unwrap_err()).contains("is gone"));
}

/// The three files, as they are at some moment.
#[derive(Clone, Default)]
struct Files([Option<Vec<u8>>; 3]);

const NAMES: [&str; 3] = ["remap.json", "remap.json.sha256", "remap.migration.json"];

impl Files {
    fn of(bench: &Bench) -> Files {
        Files(NAMES.map(|name| fs::read(bench.folder.path().join(name)).ok()))
    }

    fn put(&self, bench: &Bench) {
        for (name, bytes) in NAMES.iter().zip(&self.0) {
            let file = bench.folder.path().join(name);
            match bytes {
                Some(bytes) => fs::write(file, bytes).unwrap(),
                None => drop(fs::remove_file(file)),
            }
        }
    }

    /// As a run leaves them that is killed on the way from these to others: before the new remap file,
    /// before its checksum, before the state.
    fn windows(&self, to: &Files) -> [Files; 3] {
        let [remap, sum, state] = &self.0;
        let mut coming: State = match state {
            Some(state) => serde_json::from_slice(state).unwrap(),
            None => State::default(),
        };
        let next = Sha256::new().chain_update(to.0[0].as_ref().unwrap());
        coming.next_sha256 = Some(hex(next));
        let coming = Some(serde_json::to_vec(&coming).unwrap());
        [
            Files([remap.clone(), sum.clone(), coming.clone()]),
            Files([to.0[0].clone(), sum.clone(), coming.clone()]),
            Files([to.0[0].clone(), to.0[1].clone(), coming]),
        ]
    }
}

/// The files before a run and after it: of the first run that there is, and of a later one.
fn runs(bench: &Bench) -> [(Files, Files); 2] {
    bench.add(&[A]).unwrap();
    let first = Files::of(bench);
    bench.add(&[B]).unwrap();
    let second = Files::of(bench);
    [(Files::default(), first.clone()), (first, second)]
}

#[test]
fn a_run_killed_between_two_files_is_finished_by_whatever_comes_next() {
    let bench = Bench::new();
    for (run, (before, after)) in runs(&bench).into_iter().enumerate() {
        for (window, files) in before.windows(&after).into_iter().enumerate() {
            // The step that comes next finds the new ids, or those from before.
            files.put(&bench);
            match (run, window) {
                (0, 0) => assert!(bench.refused().contains("datastore-migrate ids")),
                (_, window) => {
                    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
                    assert_eq!(remap.len(), if window == 0 { run } else { run + 1 });
                    assert_eq!(remap.sha256(), remap.state.remap_sha256.as_deref());
                }
            }
            if window > 0 {
                assert_eq!(Files::of(&bench).0[..2], after.0[..2], "{run} {window}");
            }
            // The same run again comes to the same files, to the byte.
            files.put(&bench);
            bench.add(&[A, B][..=run]).unwrap();
            assert_eq!(Files::of(&bench).0[..2], after.0[..2], "{run} {window}");
            let state: State =
                serde_json::from_slice(Files::of(&bench).0[2].as_ref().unwrap()).unwrap();
            assert_eq!(state.next_sha256, None);
        }
    }
}

#[test]
fn a_file_that_was_edited_where_a_run_was_killed_is_refused() {
    let bench = Bench::new();
    let edited = |files: &Files| {
        let mut files = files.clone();
        let text = String::from_utf8(files.0[0].clone().unwrap()).unwrap();
        let text = text.replace(&NewId::of("s", A).to_string(), &format!("{:032}", 7));
        files.0[0] = Some(text.into_bytes());
        files
    };
    for (run, (before, after)) in runs(&bench).into_iter().enumerate() {
        let why = [
            "is not what a run that was killed had written",
            "has been edited",
        ][run];
        for files in &before.windows(&after)[1..] {
            edited(files).put(&bench);
            assert!(bench.refused().contains(why), "{run}: {}", bench.refused());
            let error = format!("{:#}", bench.add(&[A, B]).unwrap_err());
            assert!(error.contains(why), "{run}: {error}");
        }
    }
}

#[test]
fn the_project_is_kept_with_the_ids_and_not_after_them() {
    let bench = Bench::new();
    let mut remap = Remap::open_or_new(&bench.file(), &bench.mapping).unwrap();
    let mut addition = remap.add().unwrap();
    addition
        .insert(A, NewId::of("s", A), &bench.mapping)
        .unwrap();
    addition.note_project(Some("dyff".to_owned()));
    addition.finish().unwrap();
    drop(remap);
    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert_eq!(remap.state.project.as_deref(), Some("dyff"));
}

#[test]
fn what_cannot_be_meant_is_named() {
    let id = format!("{:032}", 1);
    for (text, why) in [
        (
            format!("{{\"{A}\": \"{id}\", \"{B}\": \"{id}\"}}"),
            "two entities would become one",
        ),
        (
            format!("{{\"{A}\": \"{id}\", \"{A}\": \"{:032}\"}}", 2),
            "is there twice",
        ),
        (format!("{{\"{A}\": \"5\"}}"), "is no id"),
        (format!("{{\"{A}\": 5}}"), "expected a string"),
        (format!("{{\"public/1\": \"{id}\"}}"), "is no path such as"),
        ("[]".to_owned(), "an object of old paths"),
        (format!("{{\"{A}\": \"{id}\"}} x"), "trailing characters"),
    ] {
        let bench = Bench::new();
        fs::write(bench.file(), &text).unwrap();
        let error = format!("{:#}", bench.add(&[]).unwrap_err());
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn two_runs_at_once_are_refused() {
    let bench = Bench::new();
    bench.add(&[A]).unwrap();
    let held = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert!(bench.refused().contains("another run uses"));
    drop(held);
    assert!(Remap::open(&bench.file(), &bench.mapping).is_ok());
}

#[test]
fn an_entry_that_would_stand_for_no_entity_is_refused() {
    let bench = Bench::new();
    for (path, id, why) in [
        ("Dataset:my%20data", 1, "which is \"Dataset:my data\""),
        ("Dataset:a%2fb", 1, "which is \"Dataset:a%2Fb\""),
        ("Dataset:1", 0, "the service skips an entity with that"),
    ] {
        fs::write(bench.file(), format!("{{\"{path}\": \"{id:032}\"}}")).unwrap();
        let refused = format!("{:#}", bench.add(&[A]).unwrap_err());
        assert!(refused.contains(path) && refused.contains(why), "{refused}");
    }
    fs::write(
        bench.file(),
        format!("{{\"Dataset:a%2Fb\": \"{:032}\"}}", 1),
    )
    .unwrap();
    assert_eq!(bench.add(&[A]).unwrap(), 1);
}

/// A run that is killed leaves one file, which the next one writes over.
#[test]
fn a_change_leaves_no_file_behind_and_the_mode_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.add(&[A]).unwrap();
    let partial = bench.folder.path().join("remap.json.partial");
    fs::write(&partial, "of a run that was killed").unwrap();
    let of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // A new file of that name has no mode of an old one.
    let other = bench.folder.path().join("other.partial");
    fs::write(&other, "x").unwrap();
    let new = of(&other);
    fs::set_permissions(&other, fs::Permissions::from_mode(0o400)).unwrap();
    replace(&other.with_extension(""), b"y").unwrap();
    assert_eq!(of(&other.with_extension("")), new);
    fs::remove_file(other.with_extension("")).unwrap();
    fs::set_permissions(bench.file(), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(bench.add(&[B]).unwrap(), 1);
    let mode = fs::metadata(bench.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(bench.add(&[B]).unwrap(), 0);
    let mut names: Vec<_> = (fs::read_dir(bench.folder.path()).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["remap.json", NAMES[1], "remap.lock", NAMES[2]]);
}
