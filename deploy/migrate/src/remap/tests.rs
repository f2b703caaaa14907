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

#[test]
fn a_run_killed_between_two_files_is_finished() {
    let bench = Bench::new();
    bench.add(&[A]).unwrap();
    let state = bench.folder.path().join("remap.migration.json");
    let sum = bench.folder.path().join("remap.json.sha256");
    let (state_before, sum_before) = (fs::read(&state).unwrap(), fs::read(&sum).unwrap());
    bench.add(&[B]).unwrap();
    let sha256 = hex_of_file(&bench.file()).unwrap();
    // As it was right after the rename: the state knows what comes, the checksum does not yet.
    let mut old: State = serde_json::from_slice(&state_before).unwrap();
    old.next_sha256 = Some(sha256.clone());
    fs::write(&state, serde_json::to_vec(&old).unwrap()).unwrap();
    fs::write(&sum, sum_before).unwrap();
    let remap = Remap::open(&bench.file(), &bench.mapping).unwrap();
    assert_eq!((remap.len(), remap.sha256()), (2, Some(&*sha256)));
    assert!(fs::read_to_string(&sum).unwrap().starts_with(&sha256));
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
