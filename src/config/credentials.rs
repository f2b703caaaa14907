//! Where the URI, the database and the password are read from: kept, since files change while the service runs.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::reference::{self, Setting};
use super::{Faults, value};

/// The key, in the directory, of the password that a rotation is about to make the user's.
pub const PASSWORD_NEXT: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_NEXT";

/// The keys of the directory, which are those of the Secret.
const KEYS: [&str; 4] = [
    reference::CONNECTION_STRING.name,
    reference::DATABASE.name,
    reference::PASSWORD.name,
    PASSWORD_NEXT,
];

/// What a volume of the kubelet's calls the link that it swaps; behind it is one generation of all files.
const GENERATION: &str = "..data";

/// How often the files are read anew because they were swapped in between.
const READS_MAX: usize = 5;

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

/// What they say now.
pub(super) struct Values {
    pub(super) uri: Option<SecretString>,
    pub(super) database: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) password_next: Option<SecretString>,
}

impl Credentials {
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
        let mut files = Files::new();
        if let Some(directory) = &self.directory {
            match read_directory(directory) {
                Ok(read) => files = read,
                Err((key, error)) => {
                    let path = key.map_or(directory.clone(), |key| directory.join(key));
                    faults.add(
                        key.unwrap_or(reference::CREDENTIALS_DIR.name),
                        format!(
                            "{} cannot be read: {error}",
                            value::shown(&path.to_string_lossy())
                        ),
                    );
                }
            }
        }
        let mut secret = |setting: &Setting, source: &Source| {
            let value = (source.value.as_ref()).map(|value| value.expose_secret().to_owned());
            let file = files.remove(setting.name);
            file.or_else(|| faults.secret(setting, value, source.file.clone()))
        };
        let uri = secret(&reference::CONNECTION_STRING, &self.uri);
        let password = secret(&reference::PASSWORD, &self.password);
        let database = files.remove(reference::DATABASE.name);
        Values {
            uri,
            password,
            password_next: files.remove(PASSWORD_NEXT),
            database: database
                .map(|name| name.expose_secret().to_owned())
                .or_else(|| self.database.clone()),
        }
    }
}

type Files = BTreeMap<&'static str, SecretString>;

/// The files that are there, all of one generation; an error with the key that it is about.
fn read_directory(directory: &Path) -> Result<Files, (Option<&'static str>, io::Error)> {
    for _ in 0..READS_MAX {
        let Some(generation) = generation(directory).map_err(|error| (None, error))? else {
            continue;
        };
        let mut files = Files::new();
        for key in KEYS {
            match read_file(&generation.join(key)) {
                Ok(text) => {
                    files.insert(key, text);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((Some(key), error)),
            }
        }
        if self::generation(directory).is_ok_and(|now| now.as_ref() == Some(&generation)) {
            return Ok(files);
        }
    }
    let error = io::Error::other(
        "`..data` leads nowhere, or to another folder each time that the files were read",
    );
    Err((None, error))
}

/// The folder that the files are in now; `None` where it is gone, though its link is there.
fn generation(directory: &Path) -> io::Result<Option<PathBuf>> {
    let link = directory.join(GENERATION);
    match fs::canonicalize(&link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(&link).is_ok() {
                return Ok(None);
            }
            fs::read_dir(directory)?;
            Ok(Some(directory.to_owned()))
        }
        other => other.map(Some),
    }
}

/// The text of a file without the line end behind it.
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
    let end = text.trim_end_matches(['\r', '\n']).len();
    if end == 0 {
        return Err(io::Error::other("it is empty"));
    }
    text.truncate(end);
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// Writes a generation of files and swaps it in, as the kubelet does; the one before it goes.
    fn publish(directory: &Path, generation: &str, files: &[(&str, &str)]) {
        let folder = directory.join(generation);
        fs::create_dir(&folder).unwrap();
        for (key, text) in files {
            fs::write(folder.join(key), text).unwrap();
            let _ = symlink(Path::new(GENERATION).join(key), directory.join(key));
        }
        let before = fs::canonicalize(directory.join(GENERATION));
        symlink(generation, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join(GENERATION)).unwrap();
        if let Ok(before) = before {
            fs::remove_dir_all(before).unwrap();
        }
    }

    fn read(credentials: &Credentials) -> (Values, Vec<String>) {
        let mut faults = Faults::of(&super::reference::SETTINGS);
        let values = credentials.read(&mut faults);
        let faults = faults.found.iter();
        let told = faults.map(|error| format!("{}: {}", error.variable, error.fault));
        (values, told.collect())
    }

    fn of(directory: &TempDir) -> Credentials {
        Credentials {
            directory: Some(directory.path().to_owned()),
            uri: Source {
                value: Some("mongodb://variable".to_owned().into()),
                file: None,
            },
            database: Some("variable".to_owned()),
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
        let (values, told) = read(&credentials);
        assert_eq!(text(&values.uri), Some("mongodb://variable"));
        assert_eq!(values.database.as_deref(), Some("variable"));
        assert!(told.is_empty(), "{told:?}");

        let first = [
            (KEYS[0], "mongodb://file\n"),
            (KEYS[1], "file"),
            (KEYS[2], "one"),
        ];
        publish(directory.path(), "..1", &first);
        let (values, told) = read(&credentials);
        assert_eq!(text(&values.uri), Some("mongodb://file"));
        assert_eq!(values.database.as_deref(), Some("file"));
        assert_eq!(text(&values.password), Some("one"));
        assert_eq!(text(&values.password_next), None);
        assert!(told.is_empty(), "{told:?}");

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
    fn files_of_two_generations_are_never_mixed() {
        let directory = TempDir::new().unwrap();
        let (path, credentials) = (directory.path().to_owned(), of(&directory));
        publish(&path, "..0", &[(KEYS[2], "0"), (KEYS[3], "0")]);
        let writer = std::thread::spawn(move || {
            for number in 1..500 {
                let text = number.to_string();
                publish(
                    &path,
                    &format!("..{number}"),
                    &[(KEYS[2], &text), (KEYS[3], &text)],
                );
            }
        });
        while !writer.is_finished() {
            let (values, told) = read(&credentials);
            if told.is_empty() {
                assert!(values.password.is_some(), "they were there all the time");
                assert_eq!(text(&values.password), text(&values.password_next));
            }
        }
        writer.join().unwrap();
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
            let (_, told) = read(&of(&directory));
            assert_eq!(told.len(), 1, "{told:?}");
            let line = &told[0];
            assert!(line.contains(says) && line.contains(KEYS[2]), "{line}");
            assert!(!line.contains("hunter"), "{line}");
        }
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
        let (_, told) = read(&of(&directory));
        assert!(told[0].contains("cannot be read"), "{told:?}");
        symlink("..gone", directory.path().join(GENERATION)).unwrap();
        let (_, told) = read(&of(&directory));
        assert!(told[0].contains("leads nowhere"), "{told:?}");

        let mut nowhere = of(&directory);
        nowhere.directory = Some(directory.path().join("nowhere"));
        let (_, told) = read(&nowhere);
        assert!(
            told[0].starts_with("DYFF_WORKFLOWS_SINK__CREDENTIALS_DIR")
                && told[0].contains("nowhere"),
            "{told:?}"
        );
    }
}
