//! Where the URI, the database and the password are read from: kept, since files change while the
//! service runs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::misspelt::is_nearly;
use super::reference::{self, Setting};
use super::volume::{self, DATA};
use super::{Environment, Faults, value};

/// The key, in the directory, of the password that the user gets next in a rotation.
pub const PASSWORD_NEXT: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_NEXT";

/// The keys of the directory, which are those of the Secret.
const KEYS: [&str; 4] = [
    reference::CONNECTION_STRING.name,
    reference::DATABASE.name,
    reference::PASSWORD.name,
    PASSWORD_NEXT,
];

/// The most that a file may hold, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The variables, and the directory whose files take their place.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub(super) directory: Option<PathBuf>,
    pub(super) uri: Source,
    pub(super) password: Source,
    pub(super) database: Option<String>,
}

/// A variable with a secret, and the `_FILE` variable beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) value: Option<SecretString>,
    pub(super) file: Option<String>,
}

impl Source {
    fn of(env: &Environment, setting: &Setting) -> Source {
        Source {
            value: env.get(setting).map(SecretString::from),
            file: env.file_of(setting),
        }
    }
}

/// What the variables and files say now.
pub(super) struct Values {
    pub(super) uri: Option<SecretString>,
    pub(super) database: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) password_next: Option<SecretString>,
}

impl Credentials {
    /// The places that the environment names.
    pub(super) fn of(env: &mut Environment) -> Credentials {
        let directory = env.read_if_set(&reference::CREDENTIALS_DIR, value::text);
        if let Some(directory) = &directory {
            misspelt(Path::new(directory), &mut env.faults);
        }
        Credentials {
            directory: directory.map(PathBuf::from),
            uri: Source::of(env, &reference::CONNECTION_STRING),
            password: Source::of(env, &reference::PASSWORD),
            database: env.get(&reference::DATABASE),
        }
    }

    /// Whether any of it comes from a file, and so can change.
    pub fn can_change(&self) -> bool {
        self.directory.is_some() || self.uri.file.is_some() || self.password.file.is_some()
    }

    /// The directory and the files, for messages.
    pub fn places(&self) -> String {
        let directory = self.directory.iter().map(|path| path.display().to_string());
        let files = [&self.uri.file, &self.password.file];
        let places: Vec<String> = directory
            .chain(files.into_iter().flatten().cloned())
            .collect();
        places.join(", ")
    }

    pub(super) fn read(&self, faults: &mut Faults) -> Values {
        let mut texts = Texts::new();
        if let Some(directory) = &self.directory {
            match read_directory(directory) {
                Ok(read) => texts = read,
                Err(unreadable) => {
                    let path = value::shown(&unreadable.path.to_string_lossy());
                    let fault = format!("{path} cannot be read: {}", unreadable.error);
                    faults.add(unreadable.name, fault);
                }
            }
        }
        let mut secret = |setting: &Setting, source: &Source| {
            let value = (source.value.as_ref()).map(|value| value.expose_secret().to_owned());
            let file = texts.remove(setting.name);
            file.or_else(|| faults.secret(setting, value, source.file.clone()))
        };
        let uri = secret(&reference::CONNECTION_STRING, &self.uri);
        let password = secret(&reference::PASSWORD, &self.password);
        let database = texts.remove(reference::DATABASE.name);
        if let (Some(of_file), Some(set)) = (&database, &self.database)
            && of_file.expose_secret() != set
        {
            let fault = format!(
                "says {}, and the file of that name in {} another database: leave one of them out",
                value::shown(set),
                reference::CREDENTIALS_DIR.name
            );
            faults.add(reference::DATABASE.name, fault);
        }
        Values {
            uri,
            password,
            password_next: texts.remove(PASSWORD_NEXT),
            database: database
                .map(|name| name.expose_secret().to_owned())
                .or_else(|| self.database.clone()),
        }
    }
}

/// By key.
type Texts = BTreeMap<&'static str, SecretString>;

/// What cannot be read, and the variable or key that it is about.
struct Unreadable {
    name: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// The files that are there, all of one state.
fn read_directory(directory: &Path) -> Result<Texts, Unreadable> {
    let unreadable = |error| Unreadable {
        name: reference::CREDENTIALS_DIR.name,
        path: directory.to_owned(),
        error,
    };
    let read = volume::read_one_state(directory, |files| match files {
        volume::Files::Linked(folder) => read_files(directory, folder),
        volume::Files::Plain | volume::Files::Gone => {
            fs::read_dir(directory).map_err(unreadable)?;
            read_files(directory, directory)
        }
    });
    let unsteady = || {
        io::Error::other(format!(
            "`{DATA}` leads nowhere, or to another folder each time that the files were read"
        ))
    };
    let read = read.map_err(unreadable)?;
    read.unwrap_or_else(|| Err(unreadable(unsteady())))
}

/// The files of `folder`, which `directory` shows.
fn read_files(directory: &Path, folder: &Path) -> Result<Texts, Unreadable> {
    let mut texts = Texts::new();
    for key in KEYS {
        match read_file(&folder.join(key)) {
            Ok(text) => drop(texts.insert(key, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Unreadable {
                    name: key,
                    path: directory.join(key),
                    error,
                });
            }
        }
    }
    Ok(texts)
}

/// Names each file of the directory that is nearly one of ours: it is not read. Only for a start: a
/// service at work follows the files that it has found.
fn misspelt(directory: &Path, faults: &mut Faults) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| !KEYS.contains(&name.as_str())) {
        if let Some(key) = KEYS.iter().find(|key| is_nearly(key, &name)) {
            let fault = format!("a file of this name is ignored; did you mean {key}?");
            faults.add(&name, fault);
        }
    }
}

/// The text of a file, without the line end after it.
fn read_file(path: &Path) -> io::Result<SecretString> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    let end = value::without_line_end(&text).len();
    if end == 0 {
        return Err(io::Error::other("it is empty"));
    }
    text.truncate(end);
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;

    /// How long states may be written until some were read.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Writes one state of the files and swaps it in, as the kubelet does; removes the one before.
    fn publish(directory: &Path, state: &str, files: &[(&str, &str)]) {
        let folder = directory.join(state);
        fs::create_dir(&folder).unwrap();
        for (key, text) in files {
            fs::write(folder.join(key), text).unwrap();
            let _ = symlink(Path::new(DATA).join(key), directory.join(key));
        }
        let before = fs::canonicalize(directory.join(DATA));
        symlink(state, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join(DATA)).unwrap();
        if let Ok(before) = before {
            fs::remove_dir_all(before).unwrap();
        }
    }

    fn read(credentials: &Credentials) -> (Values, Vec<String>) {
        let mut faults = Faults::of(&super::reference::SETTINGS);
        let values = credentials.read(&mut faults);
        let faults = faults.found.iter();
        let shown = faults.map(|error| format!("{}: {}", error.variable, error.fault));
        (values, shown.collect())
    }

    fn of(directory: &TempDir) -> Credentials {
        Credentials {
            directory: Some(directory.path().to_owned()),
            uri: Source {
                value: Some("mongodb://variable".to_owned().into()),
                file: None,
            },
            ..Credentials::default()
        }
    }

    fn text(secret: &Option<SecretString>) -> Option<&str> {
        secret.as_ref().map(|secret| secret.expose_secret())
    }

    #[test]
    fn a_file_of_the_directory_takes_the_place_of_its_variable() {
        let directory = TempDir::new().unwrap();
        let credentials = of(&directory);
        let (values, faults) = read(&credentials);
        assert_eq!(text(&values.uri), Some("mongodb://variable"));
        assert_eq!(values.database, None);
        assert!(faults.is_empty(), "{faults:?}");

        let first = [
            (KEYS[0], "mongodb://file\n"),
            (KEYS[1], "file"),
            (KEYS[2], "one"),
        ];
        publish(directory.path(), "..1", &first);
        let (values, faults) = read(&credentials);
        assert_eq!(text(&values.uri), Some("mongodb://file"));
        assert_eq!(values.database.as_deref(), Some("file"));
        assert_eq!(text(&values.password), Some("one"));
        assert_eq!(text(&values.password_next), None);
        assert!(faults.is_empty(), "{faults:?}");

        let near = directory.path().join(format!("{}S", KEYS[2]));
        fs::write(&near, "two").unwrap();
        assert_eq!(read(&credentials).1, [""; 0], "a service at work goes on");
        let mut faults = Faults::of(&super::reference::SETTINGS);
        misspelt(directory.path(), &mut faults);
        let fault = &faults.found[0].fault;
        assert!(
            fault.contains(&format!("did you mean {}?", KEYS[2])),
            "{fault}"
        );
        fs::remove_file(near).unwrap();

        let mut twice = credentials.clone();
        twice.database = Some("file".to_owned());
        assert_eq!(read(&twice).1, [""; 0], "both say the same");
        twice.database = Some("variable".to_owned());
        assert!(read(&twice).1[0].contains("another database"));

        publish(
            directory.path(),
            "..2",
            &[(KEYS[2], "one"), (KEYS[3], "two\r\n")],
        );
        let (values, _) = read(&credentials);
        assert_eq!(text(&values.password_next), Some("two"));
        assert_eq!(
            text(&values.uri),
            Some("mongodb://variable"),
            "no longer there"
        );
    }

    #[test]
    fn files_of_two_states_are_never_mixed() {
        let directory = TempDir::new().unwrap();
        let (path, credentials) = (directory.path().to_owned(), of(&directory));
        publish(&path, "..0", &[(KEYS[2], "0"), (KEYS[3], "0")]);
        // How many states were read without a fault.
        let seen = Arc::new(AtomicUsize::new(0));
        let seen_enough = Arc::clone(&seen);
        let writer = std::thread::spawn(move || {
            let end = Instant::now() + DEADLINE;
            let is_enough = |number| number > 500 && seen_enough.load(Relaxed) >= 10;
            for number in (1..).take_while(|number| !is_enough(*number)) {
                assert!(
                    Instant::now() < end,
                    "not within {DEADLINE:?}: ten states are read"
                );
                let text = number.to_string();
                publish(
                    &path,
                    &format!("..{number}"),
                    &[(KEYS[2], &text), (KEYS[3], &text)],
                );
            }
        });
        let mut last = Some("0".to_owned());
        while !writer.is_finished() {
            let (values, faults) = read(&credentials);
            if faults.is_empty() {
                assert!(values.password.is_some(), "they were there all the time");
                assert_eq!(text(&values.password), text(&values.password_next));
                if text(&values.password) != last.as_deref() {
                    last = text(&values.password).map(str::to_owned);
                    seen.fetch_add(1, Relaxed);
                }
            }
        }
        writer.join().unwrap();
        assert!(seen.load(Relaxed) > 0);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_shown() {
        let directory = TempDir::new().unwrap();
        let key = directory.path().join(KEYS[2]);
        for (bytes, says) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"\xffhunter", "valid UTF-8"),
            (&[b'x'; 65_537], "larger than 65536 bytes"),
        ] {
            fs::write(&key, bytes).unwrap();
            let (_, faults) = read(&of(&directory));
            assert_eq!(faults.len(), 1, "{faults:?}");
            let line = &faults[0];
            assert!(line.contains(says) && line.contains(KEYS[2]), "{line}");
            assert!(!line.contains("hunter"), "{line}");
        }
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
        let (_, faults) = read(&of(&directory));
        assert!(faults[0].contains("cannot be read"), "{faults:?}");
        symlink("..gone", directory.path().join(DATA)).unwrap();
        let (_, faults) = read(&of(&directory));
        assert!(faults[0].contains("leads nowhere"), "{faults:?}");

        let mut nowhere = of(&directory);
        nowhere.directory = Some(directory.path().join("nowhere"));
        let (_, faults) = read(&nowhere);
        assert!(
            faults[0].starts_with("DYFF_WORKFLOWS_SINK__CREDENTIALS_DIR")
                && faults[0].contains("nowhere"),
            "{faults:?}"
        );
    }
}
